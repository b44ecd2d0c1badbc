"""What the sampling nodes let a user choose, as the core wants it."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..adadiffsr_core.sampling.compute_mask import MaskMeans, check_means, mask_to_levels
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
        mask_means: what its levels are.
        own_networks: whether the MODEL's own take part where none is connected.
    """

    config: RegionConfig
    mmle: Any = None
    pfj: Any = None
    compute_mask: Tensor | None = None
    mask_means: MaskMeans = "levels"
    own_networks: bool = True

    @property
    def levels(self) -> Tensor | None:
        """The compute mask's, `[M,H,W]` in [0,1], or None."""
        return None if self.compute_mask is None else mask_to_levels(self.compute_mask, self.mask_means)


def read_settings(
    *,
    mmle: Any = None,
    pfj: Any = None,
    compute_mask: Tensor | None = None,
    mask_means: MaskMeans = "levels",
    own_networks: bool = False,
    **inputs: Any,
) -> RegionSettings:
    """From the inputs of a sampling node; what none of them says is the everyday preset's.

    What a graph lacks that was saved before it was there, is as it was then: see also the defaults here.

    Raises:
        ConfigError: a value is unknown or out of its range. Older hosts do not check what is chosen from a list.
    """
    check_means(mask_means)
    dtss: dict[str, Any] = {**EVERYDAY_DTSS.to_dict(), **_BEFORE, "intervals": parse_intervals(inputs.pop("intervals"))}
    dtss |= {name: inputs.pop(name) for name in dtss if name in inputs}
    values = {_NAMES.get(name, name): value for name, value in inputs.items()}
    config = RegionConfig.from_dict({**values, "dtss": dtss})
    return RegionSettings(
        config=config,
        mmle=mmle,
        pfj=pfj,
        compute_mask=compute_mask,
        mask_means=mask_means,
        own_networks=own_networks,
    )
