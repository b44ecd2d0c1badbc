"""Dynamic timestep sampling (DTSS): gain -> class -> next jump. Pure functions, state in, state out.

Source: section 3.3; decisions D71 and D81. To change how tiles are treated, change `classify_tiles`, `next_rung` or
`bounded`; nothing else knows the rules.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..gain.information import information_gain
from .bounded import MARGIN_DB, MASK_DB, UNKNOWN_DIFFICULTY, Courses, choose_course, courses, likeness_that_spends
from .rule import ALL_STEPS_DB, DtssConfig, TileClass, Views


@dataclass(frozen=True)
class TileStates:
    """Where tiles are in their own timelines; every field `[n]` or `[n,2]`, on the CPU.

    Attributes:
        index: base index reached, 0 to N.
        visits: evaluations so far.
        interval: base steps of the latest jump; 0 before the first.
        rung: on the ladder of intervals.
        quality: R_fr and R_nr at the latest evaluation.
        gain: I_fr and I_nr there.
        best_nr: the best R_nr seen while it counted.
        lowest_rung, highest_rung: bounds from the compute mask.
        may_exit: whether the tile may stop early.
        level: of the compute mask, 0 to 1.
        difficulty: as guessed at the latest evaluation, log10 (see `bounded`).
        course: that the bounded rule chose at the latest evaluation, a place among `courses`.
    """

    index: Tensor
    visits: Tensor
    interval: Tensor
    rung: Tensor
    quality: Tensor
    gain: Tensor
    best_nr: Tensor
    lowest_rung: Tensor
    highest_rung: Tensor
    may_exit: Tensor
    level: Tensor
    difficulty: Tensor
    course: Tensor

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
        visits=zeros.clone(),
        interval=zeros.clone(),
        rung=(highest if config.jumps_ahead else lowest).clone(),
        quality=torch.zeros(count, 2),
        gain=torch.zeros(count, 2),
        best_nr=torch.full((count,), -torch.inf),
        lowest_rung=lowest,
        highest_rung=highest,
        may_exit=(level < 1) & config.exits,
        level=level,
        difficulty=torch.full((count,), UNKNOWN_DIFFICULTY),
        course=zeros.clone(),
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
    rung = states.rung + move * (states.visits > 0)
    return torch.minimum(torch.maximum(rung, states.lowest_rung), states.highest_rung)


class Seen(NamedTuple):
    """What an evaluation shows of tiles: their classes by gain, and whether it is the best so far; all `[B]`."""

    classes: Tensor
    is_best: Tensor


def decide(states: TileStates, quality: Tensor | None, config: DtssConfig, steps: int) -> Decision:
    """Choose each tile's next jump: `rate`, then `choose` by the config's own likeness."""
    rated, seen = rate(states, quality, config, steps)
    return choose(rated, seen, config, courses(steps), torch.full((len(rated.index),), config.likeness))


def rate(states: TileStates, quality: Tensor | None, config: DtssConfig, steps: int) -> tuple[TileStates, Seen]:
    """Take in what was measured of tiles that were just evaluated; they stay where they are.

    Args:
        states: of a batch of tiles.
        quality: see `GainEstimator.quality`; None if nothing is estimated, and then every tile is stable.
        config: the rule's numbers.
        steps: number of base steps N.
    """
    second_half = states.index >= config.nr_from * steps
    if quality is None:
        gain, quality = torch.zeros_like(states.quality), states.quality
        classes = torch.full_like(states.index, int(TileClass.STABLE))
    else:
        quality = quality.float().cpu()
        if quality.shape[1] > 2:
            states = replace(states, difficulty=quality[:, 2])
        quality = quality[:, :2]
        gain = information_gain(quality, states.quality, states.interval / steps) * (states.visits > 0)[:, None]
        gain = torch.stack([gain[:, 0], gain[:, 1] * second_half], dim=1)
        classes = classify_tiles(gain, config.gain_threshold, config.views)
    is_best = second_half & (quality[:, 1] > states.best_nr)
    best_nr = quality[:, 1].where(is_best, states.best_nr)
    return replace(states, quality=quality, gain=gain, best_nr=best_nr), Seen(classes, is_best)


def choose(states: TileStates, seen: Seen, config: DtssConfig, found: Courses, likeness: Tensor) -> Decision:
    """Choose each tile's next jump from what `rate` says.

    Args:
        states, seen: of the tiles.
        config: the rule's numbers.
        found: of the run's base steps.
        likeness: dB, of each tile.
    """
    if config.rule == "bounded":
        return _choose_bounded(states, seen, found, likeness)
    return _choose_by_class(states, seen, config, found.steps)


def _choose_by_class(states: TileStates, seen: Seen, config: DtssConfig, steps: int) -> Decision:
    """The paper's rule."""
    # A tile that may not stop goes on with small steps: its texture is what is changing.
    classes = seen.classes.where(states.may_exit | (seen.classes != TileClass.SATURATED), int(TileClass.GROWING))
    rung = next_rung(states, classes)
    target = (states.index + _choose_interval(states, rung, config, steps)).clamp_max(steps)
    if config.visit_last:
        target = target.where(states.index >= steps - 1, target.clamp_max(steps - 1))
    is_saturated = classes == TileClass.SATURATED
    advanced = replace(
        states,
        index=target.where(~is_saturated, states.index),
        visits=states.visits + 1,
        interval=target - states.index,
        rung=rung,
    )
    return Decision(advanced, classes, seen.is_best, is_saturated | (target >= steps))


def _choose_interval(states: TileStates, rung: Tensor, config: DtssConfig, steps: int) -> Tensor:
    """Base steps to jump: the rung's, but for the first jump of tiles that are not to take every step."""
    ladder = torch.tensor(config.intervals)[rung]
    first = ladder.clamp_min(round(config.first_jump * steps)) if config.jumps_ahead else ladder
    return ladder.where((states.visits > 0) | (states.highest_rung == 0), first)


def _choose_bounded(states: TileStates, seen: Seen, found: Courses, likeness: Tensor) -> Decision:
    """On to the next place of the shortest course that keeps a tile within the likeness."""
    course = plan_courses(states, found, likeness)
    following = found.following[course, states.index]
    is_final = following >= found.steps
    # A tile that now takes a longer course than before turned out harder than it seemed.
    is_growing = (course > states.course) & (states.visits > 0) & ~is_final
    advanced = replace(
        states,
        index=following,
        visits=states.visits + 1,
        interval=following - states.index,
        course=course,
    )
    classes = torch.where(is_growing, int(TileClass.GROWING), int(TileClass.STABLE))
    return Decision(advanced, classes, seen.is_best, is_final)


def plan_courses(states: TileStates, found: Courses, likeness: Tensor) -> Tensor:
    """The course that the bounded rule would have each tile on, a place among `found`, `[n]`.

    The compute mask moves the likeness by up to `MASK_DB` / 2 either way; where it is white every step is taken, as for
    the highest likeness.
    """
    wanted = likeness + MARGIN_DB + MASK_DB * (states.level - 0.5)
    index = states.index.clamp_max(found.steps - 1)
    chosen = choose_course(states.difficulty, wanted, index, states.course, found)
    return chosen.where((states.level < 1) & (likeness < ALL_STEPS_DB), len(found.deviation) - 1)


def evaluations_left(states: TileStates, config: DtssConfig, found: Courses, likeness: Tensor) -> Tensor:
    """Evaluations that tiles have still to take, the one at their index among them, as it looks now; `[n]`."""
    if config.rule == "bounded":
        more = found.remaining[plan_courses(states, found, likeness), states.index.clamp_max(found.steps - 1)]
        return (more + 1).where(states.index < found.steps, 0)
    return torch.ceil((found.steps - states.index) / torch.tensor(config.intervals)[states.rung]).long()


def find_likeness(states: TileStates, config: DtssConfig, found: Courses) -> float:
    """The likeness, dB, at which the bounded rule spends the budget on these tiles.

    Args:
        states: of all tiles of a picture, evaluated once each.
        config: the rule's numbers; there is a budget.
        found: of the run's base steps.
    """

    def cost_at(likeness: float) -> float:
        wanted = torch.full((len(states.index),), likeness)
        return float((states.visits + evaluations_left(states, config, found, wanted)).float().mean())

    return likeness_that_spends(config.budget, cost_at)
