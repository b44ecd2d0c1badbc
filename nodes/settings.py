"""What the sampling nodes let a user choose, as the core wants it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..adadiffsr_core.sampling.config import EVERYDAY_DTSS, RegionConfig, parse_intervals

# What a graph means that was saved before these inputs were there.
_BEFORE = {"first_jump": 0.0, "rule": "paper", "visit_last": False}
# What an input was called before the core had a name for it; names of inputs never change.
_NAMES = {"sampler_name": "solver", "merge_mode": "merge"}


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """How regions are sampled, and what takes part.

    Attributes:
        config: the numbers.
        mmle, pfj: networks in the host's care (`nodes.host.networks.Network`), or None.
        compute_mask: `[M,H,W]` in [0,1] of any size, or None.
    """

    config: RegionConfig
    mmle: Any = None
    pfj: Any = None
    compute_mask: Tensor | None = None


def read_settings(
    *, mmle: Any = None, pfj: Any = None, compute_mask: Tensor | None = None, **inputs: Any
) -> RegionSettings:
    """From the inputs of a sampling node; what none of them says is the everyday preset's.

    Raises:
        ConfigError: a value is unknown or out of its range. Older hosts do not check what is chosen from a list.
    """
    dtss: dict[str, Any] = {**EVERYDAY_DTSS.to_dict(), **_BEFORE, "intervals": parse_intervals(inputs.pop("intervals"))}
    dtss |= {name: inputs.pop(name) for name in dtss if name in inputs}
    values = {_NAMES.get(name, name): value for name, value in inputs.items()}
    config = RegionConfig.from_dict({**values, "dtss": dtss})
    return RegionSettings(config=config, mmle=mmle, pfj=pfj, compute_mask=compute_mask)
