"""What a user may say of how a tile's steps are chosen, and the names of what a tile is doing.

Source: section 3.3; decision D71.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Literal

from ..config import Config, Most
from ..errors import ConfigError
from .schedule import MAX_TIMESTEP

# How a jump is chosen: by the gain's class (section 3.3), or so that every tile ends near all steps (decision D71).
Rule = Literal["paper", "bounded"]

# Which gains classify a tile: both as in section 3.3, or one alone as in the ablation of Table 4.
Views = Literal["both", "fr", "nr"]


class TileClass(IntEnum):
    """What a tile is doing (section 3.3)."""

    GROWING = 0
    STABLE = 1
    SATURATED = 2


ALL_STEPS_DB = 100.0  # the highest likeness, which only every base step gives


@dataclass(frozen=True, kw_only=True)
class DtssConfig(Config):
    """The rule's numbers.

    Attributes:
        rule: how a jump is chosen; what is below for one of them plays no part in the other.
        visit_last: evaluate the last base step of every tile, at the least noisy level; `bounded` always does.
        likeness: of `bounded`: PSNR to what all steps would give, dB, that no tile is to fall short of.
        budget: of `bounded`: evaluations per tile, in the mean over the picture, for which the likeness is found; 0 to
            go by `likeness`.
        intervals: of `paper`, as all that follow: base steps per jump, smallest first: the ladder's rungs.
        gain_threshold: the paper's tau, per twentieth of the denoising.
        early_exit: whether saturated tiles stop.
        nr_from: share of the denoising after which no-reference gain counts.
        views: which gains classify a tile.
        first_jump: share of the base steps that a tile's first jump covers, before there is any gain to go by; 0
            to start on the smallest interval. For networks that see the low-quality latent (decision D28).
    """

    rule: Rule = "paper"
    visit_last: bool = False
    likeness: Annotated[float, Most(ALL_STEPS_DB, least=0)] = 42.0
    budget: Annotated[float, Most(MAX_TIMESTEP, least=0)] = 0.0
    intervals: tuple[Annotated[int, Most(MAX_TIMESTEP)], ...] = (1, 2, 3, 4)
    gain_threshold: float = 5e-3
    early_exit: bool = True
    nr_from: float = 0.5
    views: Views = "both"
    first_jump: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.intervals or min(self.intervals) < 1 or list(self.intervals) != sorted(self.intervals):
            raise ConfigError(f"intervals must be whole numbers of at least 1, smallest first, got {self.intervals}")
        if self.gain_threshold < 0:
            raise ConfigError(f"gain_threshold must not be negative, got {self.gain_threshold}")
        if not 0 <= self.nr_from <= 1:
            raise ConfigError(f"nr_from must be between 0 and 1, got {self.nr_from}")
        if not 0 <= self.first_jump < 1:
            raise ConfigError(f"first_jump must be from 0 to below 1, got {self.first_jump}")

    @property
    def is_uniform(self) -> bool:
        """Whether adaptivity is off: of one interval, gains change nothing, no tile exits early or jumps ahead."""
        return self.rule == "paper" and self.intervals[0] == self.intervals[-1]

    @property
    def exits(self) -> bool:
        """Whether a tile may stop early."""
        return self.rule == "paper" and self.early_exit and not self.is_uniform

    @property
    def jumps_ahead(self) -> bool:
        """Whether tiles have a first jump of their own."""
        return self.first_jump > 0 and not self.is_uniform
