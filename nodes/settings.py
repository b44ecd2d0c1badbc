"""What the sampling nodes let a user choose, as the core wants it."""

from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import Tensor

from ..adadiffsr_core.errors import ConfigError
from ..adadiffsr_core.sampling.codebook import Solver
from ..adadiffsr_core.sampling.controller import DtssConfig
from ..adadiffsr_core.settings import PRESETS, MergeMode
from ..adadiffsr_core.text import quoted


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """How regions are sampled.

    Attributes:
        sampler_name: one of the core's solvers, which are the host's of the same names.
        dtss: the controller's numbers.
        tile_size: side of a tile, image px; 0 is what the model was trained on.
        overlap: least overlap of neighbours, image px.
        tile_fit: let tiles grow up to a quarter where that evaluates less area.
        tile_batch: tiles in one call of the network; 0 is what free memory holds.
        merge_mode: tiles merged once at the end, or at every step.
        pfj_strength: of the feature injection.
        mmle, pfj: networks in the host's care (`nodes.host.networks.Network`), or None.
        compute_mask: `[M,H,W]` in [0,1] of any size, or None.
    """

    sampler_name: str
    dtss: DtssConfig
    tile_size: int = 0
    overlap: int = 64
    tile_fit: bool = True
    tile_batch: int = 0
    merge_mode: MergeMode = "final"
    pfj_strength: float = 1.0
    mmle: Any = None
    pfj: Any = None
    compute_mask: Tensor | None = None

    def __post_init__(self) -> None:
        # Older hosts do not check what is chosen from a list.
        for name, choices in (("sampler_name", get_args(Solver)), ("merge_mode", get_args(MergeMode))):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"{name} {quoted(getattr(self, name), 80)} is unknown; use one of {', '.join(choices)}"
                )


def parse_dtss(intervals: str, gain_threshold: float, early_exit: bool, first_jump: float) -> DtssConfig:
    """The controller's numbers from what was typed; the rest is the everyday preset's.

    Raises:
        ConfigError: intervals are not rising whole numbers, or another number is out of its range.
    """
    try:
        ladder = tuple(int(part) for part in intervals.split(","))
    except ValueError:
        raise ConfigError(
            f"intervals {quoted(intervals, 80)} must be whole numbers and commas, such as 1, 2, 3, 4"
        ) from None
    everyday = PRESETS["everyday"].dtss
    return replace(
        everyday, intervals=ladder, gain_threshold=gain_threshold, early_exit=early_exit, first_jump=first_jump
    )
