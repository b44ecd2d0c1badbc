"""Dynamic timestep sampling (DTSS): gain -> class -> next interval. Pure functions, state in, state out.

Source: section 3.3. To change how tiles are treated, change `classify_tiles` or `next_rung`; nothing
else knows the rule.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from ..config import Config, Most
from ..errors import ConfigError
from ..gain.information import information_gain
from .schedule import MAX_TIMESTEP

# Which gains classify a tile: both as in section 3.3, or one alone as in the ablation of Table 4.
Views = Literal["both", "fr", "nr"]


class TileClass(IntEnum):
    """What a tile is doing (section 3.3)."""

    GROWING = 0
    STABLE = 1
    SATURATED = 2


@dataclass(frozen=True, kw_only=True)
class DtssConfig(Config):
    """The rule's numbers.

    Attributes:
        intervals: base steps per jump, smallest first: the ladder's rungs.
        gain_threshold: the paper's tau, per twentieth of the denoising.
        early_exit: whether saturated tiles stop.
        nr_from: share of the denoising after which no-reference gain counts.
        views: which gains classify a tile.
        first_jump: share of the base steps that a tile's first jump covers, before there is any gain to go by; 0
            to start on the smallest interval. For networks that see the low-quality latent (decision D28).
    """

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
        """Whether gains cannot change anything, so that none need be estimated."""
        return self.intervals[0] == self.intervals[-1] and not self.early_exit


@dataclass(frozen=True)
class TileStates:
    """Where tiles are in their own timelines; every field `[n]` or `[n,2]`, on the CPU.

    Attributes:
        index: base index reached, 0 to N.
        interval: base steps of the latest jump; 0 before the first.
        rung: on the ladder of intervals.
        quality: R_fr and R_nr at the latest evaluation.
        gain: I_fr and I_nr there.
        best_nr: the best R_nr seen while it counted.
        evaluated: whether there has been an evaluation.
        lowest_rung, highest_rung: bounds from the compute mask.
        may_exit: whether the tile may stop early.
    """

    index: Tensor
    interval: Tensor
    rung: Tensor
    quality: Tensor
    gain: Tensor
    best_nr: Tensor
    evaluated: Tensor
    lowest_rung: Tensor
    highest_rung: Tensor
    may_exit: Tensor

    def take(self, ids: Tensor) -> "TileStates":
        """The rows `ids`."""
        return TileStates(**{name: value[ids] for name, value in vars(self).items()})

    def put(self, ids: Tensor, rows: "TileStates") -> "TileStates":
        """A copy with `rows` in the places `ids`."""
        merged = {name: value.clone() for name, value in vars(self).items()}
        for name, value in vars(rows).items():
            merged[name][ids] = value
        return TileStates(**merged)


class Decision(NamedTuple):
    """What to do with each tile of a batch.

    Attributes:
        states: after the decision; `index` is the jump's target.
        classes: `[B]` of `TileClass`.
        is_best: `[B]`, whether this evaluation is the best so far from the NR point of view.
        is_final: `[B]`, whether the tile is finished.
    """

    states: TileStates
    classes: Tensor
    is_best: Tensor
    is_final: Tensor


def start_states(count: int, config: DtssConfig, compute: Tensor | None = None) -> TileStates:
    """States of `count` tiles at the noisiest level, on the lowest rung allowed, or with a first jump the highest.

    Args:
        count: number of tiles.
        config: the ladder.
        compute: the compute mask's level of each tile `[count]` in [0,1]: 0.5 leaves all rungs, lower values
            take the small intervals away and higher ones the large; at 1 every tile stays on the smallest and
            runs to the end (decision D6).
    """
    top = len(config.intervals) - 1
    level = torch.full((count,), 0.5) if compute is None else compute.float().cpu()
    lowest = ((1 - 2 * level).clamp_min(0) * top).round().long()
    highest = ((2 - 2 * level).clamp_max(1) * top).round().long()
    zeros = torch.zeros(count, dtype=torch.long)
    return TileStates(
        index=zeros.clone(),
        interval=zeros.clone(),
        rung=(highest if config.first_jump else lowest).clone(),
        quality=torch.zeros(count, 2),
        gain=torch.zeros(count, 2),
        best_nr=torch.full((count,), -torch.inf),
        evaluated=torch.zeros(count, dtype=torch.bool),
        lowest_rung=lowest,
        highest_rung=highest,
        may_exit=(level < 1) & config.early_exit,
    )


def classify_tiles(gain: Tensor, threshold: float, views: Views = "both") -> Tensor:
    """Section 3.3's three categories, `[B]` of `TileClass`, from gains `[B,2]` (FR, NR).

    SATURATED if the NR gain fell below -threshold, GROWING if both exceed it, STABLE otherwise. The FR gain
    counts by its size: estimates of x0, unlike the paper's noisy features, first resemble the low-quality
    input and then depart from it as detail comes in (decision D16). With one view alone the other neither
    holds a tile back from growing nor stops it (Table 4).
    """
    fr, nr = gain.unbind(dim=1)
    growing = torch.ones_like(fr, dtype=torch.bool)
    if views != "nr":
        growing = growing & (fr.abs() > threshold)
    if views != "fr":
        growing = growing & (nr > threshold)
    classes = torch.where(growing, int(TileClass.GROWING), int(TileClass.STABLE))
    return classes if views == "fr" else classes.masked_fill(nr < -threshold, int(TileClass.SATURATED))


def next_rung(states: TileStates, classes: Tensor) -> Tensor:
    """One rung down (smaller steps) for growing tiles, one up for stable ones, within the mask's bounds."""
    move = (classes == TileClass.STABLE).long() - (classes == TileClass.GROWING).long()
    # A tile's first evaluation compares with nothing; the tile stays where it starts.
    rung = states.rung + move * states.evaluated
    return torch.minimum(torch.maximum(rung, states.lowest_rung), states.highest_rung)


def decide(states: TileStates, quality: Tensor | None, config: DtssConfig, steps: int) -> Decision:
    """Choose each tile's next jump.

    Args:
        states: of a batch of tiles that were just evaluated.
        quality: `[B,2]` in [0,1]; None if nothing is estimated, and then every tile is stable.
        config: the rule's numbers.
        steps: number of base steps N.
    """
    second_half = states.index >= config.nr_from * steps
    if quality is None:
        gain, quality = torch.zeros_like(states.quality), states.quality
        classes = torch.full_like(states.index, int(TileClass.STABLE))
    else:
        quality = quality.float().cpu()
        gain = information_gain(quality, states.quality, states.interval / steps) * states.evaluated[:, None]
        gain = torch.stack([gain[:, 0], gain[:, 1] * second_half], dim=1)
        classes = classify_tiles(gain, config.gain_threshold, config.views)
    # A tile that may not stop goes on with small steps: its texture is what is changing.
    classes = classes.where(states.may_exit | (classes != TileClass.SATURATED), int(TileClass.GROWING))
    is_best = second_half & (quality[:, 1] > states.best_nr)
    rung = next_rung(states, classes)
    target = (states.index + _choose_interval(states, rung, config, steps)).clamp_max(steps)
    is_saturated = classes == TileClass.SATURATED
    advanced = replace(
        states,
        index=target.where(~is_saturated, states.index),
        interval=target - states.index,
        rung=rung,
        quality=quality,
        gain=gain,
        best_nr=quality[:, 1].where(is_best, states.best_nr),
        evaluated=torch.ones_like(states.evaluated),
    )
    return Decision(advanced, classes, is_best, is_saturated | (target >= steps))


def _choose_interval(states: TileStates, rung: Tensor, config: DtssConfig, steps: int) -> Tensor:
    """Base steps to jump: the rung's, but for the first jump of tiles that are not to take every step."""
    ladder = torch.tensor(config.intervals)[rung]
    first = ladder.clamp_min(round(config.first_jump * steps))
    return ladder.where(states.evaluated | (states.highest_rung == 0), first)
