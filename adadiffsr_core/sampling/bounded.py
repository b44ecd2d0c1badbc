"""The bounded rule: each tile takes the shortest course that keeps it near what all steps would give.

Pure functions. A course is which base steps are evaluated, from the first to the last (a sub-sequence of timesteps, as
DDIM has it); there is one for each number of evaluations, the best that was found, and the rule chooses among them.

Source: decisions D71, D81, D88 and D92. How far a tile ends from all steps is taken to be `difficulty * deviation`: the
tile's own part, which an estimator guesses, and that of its course, which is the same for all.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .rule import ALL_STEPS_DB

# Courses of 24 base steps, as `python -m benchmarks.courses` finds them, and log10 of their deviation, as `python -m
# benchmarks.likeness --courses` measures it, by jumps that look ahead. Seven even jumps that do not have a deviation of
# 1: the unit that difficulties are told in.
BASE_COURSES: tuple[tuple[float, tuple[int, ...]], ...] = (
    (1.13, (0, 23)),
    (0.44, (0, 12, 23)),
    (-0.12, (0, 6, 14, 23)),
    (-0.70, (0, 6, 14, 19, 23)),
    (-1.07, (0, 6, 11, 15, 19, 23)),
    (-1.34, (0, 4, 8, 12, 15, 19, 23)),
    (-1.43, (0, 2, 5, 8, 12, 16, 20, 23)),
    (-1.53, (0, 2, 6, 8, 12, 16, 20, 22, 23)),
    (-1.54, (0, 2, 6, 8, 10, 12, 15, 18, 20, 23)),
    (-1.65, (0, 2, 4, 6, 8, 11, 13, 15, 18, 20, 23)),
    (-2.14, (0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23)),
    (-2.35, (0, 3, 5, 6, 8, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23)),
)
BASE_STEPS = 24
# Of more base steps than these a course strays further, since its end is another one: its deviation grows by a factor,
# and by what all 24 are away from it, which is also that of any even steps (decisions D83 and D88).
_GROWTH, _GROWTH_POWER = 3.2, 1.75
_COARSENESS = 0.065  # of 24 even steps beside infinitely many
# Of a tile that nothing is known of, which may be one of the harder ones: log10 of its mean squared error, levels in
# [0,1], at a deviation of 1. The mean is -4.3 by half of the feature injection and -4.1 by all of it, and one in ten is
# harder than -3.86 and -3.55.
UNKNOWN_DIFFICULTY = -3.7
# By which guesses are mistrusted, chosen for nineteen of twenty tiles to be as near as was promised.
MARGIN_DB = 2.0
# By which they are mistrusted further where base steps are not even in timesteps, as those of courses are (decision
# D83): dB, where one is as far from its even place as the last is from the first; nearer than the second all are even.
_UNEVEN_DB, _EVEN = 35.0, 0.02
MASK_DB = 24.0  # that the compute mask moves the likeness by, from its darkest to its brightest


class Courses(NamedTuple):
    """What the rule chooses from, the shortest course first; the last is every base step.

    Attributes:
        deviation: of each, float64 `[K]`; 0 for every base step.
        following: where a tile of a course goes from each base index, `[K,N]`; from the last one, N.
        remaining: evaluations of a course beyond each base index, `[K,N]`.
        alike: whether two courses have the same places up to each base index, `[K,K,N]`.
    """

    deviation: Tensor
    following: Tensor
    remaining: Tensor
    alike: Tensor

    @property
    def steps(self) -> int:
        """Base steps N."""
        return self.following.shape[1]


@lru_cache(maxsize=8)
def courses(steps: int, borders: tuple[int, ...] = ()) -> Courses:
    """Courses of a run of N base steps: those of 24, stretched, and beyond them even ones, each half as long again.

    Args:
        steps: base steps N, from 1.
        borders: base steps that every course has a place at, beside its own.
    """
    growth = 1 + _GROWTH * max(0.0, 1 - BASE_STEPS / steps) ** _GROWTH_POWER
    found = {}
    for law, course in BASE_COURSES:
        stretched = _stretch(course, BASE_STEPS, steps)
        if len(stretched) == len(course):  # with places that fell together it is another, of which nothing is known
            found[stretched] = 10**law * growth + _coarseness(BASE_STEPS, steps)
    count = BASE_STEPS
    while count < steps:
        found[_stretch(range(count), count, steps)] = _coarseness(count, steps)
        count += count // 2
    whole = tuple(range(steps))
    shorter = [(deviation, course) for course, deviation in found.items() if course != whole]
    crossing = [(deviation, sorted({*course, *borders})) for deviation, course in shorter]
    rows = [*sorted(crossing, key=lambda row: len(row[1])), (0.0, list(whole))]
    places = torch.zeros(len(rows), steps, dtype=torch.bool)
    for row, (_, way) in zip(places, rows, strict=True):
        row[way] = True
    here_or_beyond = torch.arange(steps).where(places, steps).flip(1).cummin(dim=1).values.flip(1)
    return Courses(
        alike=(places[:, None] != places).cumsum(dim=2) == 0,
        deviation=torch.tensor([deviation for deviation, _ in rows], dtype=torch.float64),
        following=torch.cat([here_or_beyond[:, 1:], torch.full((len(rows), 1), steps)], dim=1),
        remaining=places.sum(dim=1, keepdim=True) - places.cumsum(dim=1),
    )


def _stretch(course: Iterable[int], of: int, steps: int) -> tuple[int, ...]:
    """Where the places of a run of some base steps are in one of N; places may fall together."""
    return tuple(sorted({round(place * (steps - 1) / (of - 1)) for place in course}))


def _coarseness(taken: int, steps: int) -> float:
    """Deviation of so many even base steps from all N: of two step lengths."""
    return _COARSENESS * max(0.0, BASE_STEPS / taken - BASE_STEPS / steps)


def uneven_db(timesteps: Tensor) -> float:
    """By how much tiles are further from all steps than courses say, dB, for base steps `[N]` that fall in any way."""
    if len(timesteps) < 3:
        return 0.0
    fallen = (timesteps[0] - timesteps) / (timesteps[0] - timesteps[-1])
    unevenness = float((fallen - torch.linspace(0, 1, len(timesteps)).to(fallen)).abs().max())
    return _UNEVEN_DB * max(0.0, unevenness - _EVEN)


def deviation_of(visits: Tensor, steps: int) -> Tensor:
    """Deviation of the course with as many evaluations, or of the longest with fewer.

    Args:
        visits: evaluations, of any shape, from 1.
        steps: base steps N.

    Returns:
        float64, the same shape.
    """
    found = courses(steps)
    taken = found.remaining[:, 0] + 1
    return found.deviation[torch.searchsorted(taken, visits.clamp_min(int(taken[0])), right=True) - 1]


def likeness_db(difficulty: Tensor, deviation: Tensor) -> Tensor:
    """PSNR to what all steps would give, dB, of tiles of a difficulty (log10) and a deviation; infinite for none."""
    return -10 * (difficulty + deviation.log10())


def choose_course(difficulty: Tensor, likeness: Tensor, index: Tensor, course: Tensor, found: Courses) -> Tensor:
    """The shortest course that keeps a tile within a likeness, of those that begin as the one that it is on.

    From another one's places a course does not keep what it promises: what a tile ends with hangs on its first jumps,
    and a change told by two evaluations close together says little of a long jump (decision D92). Where no course is
    near enough it is the nearest. So what is to come never costs less for a higher likeness.

    Args:
        difficulty: log10, `[B]`.
        likeness: dB, `[B]`.
        index: base indices that tiles are at, below N, `[B]`.
        course: that tiles are on, `[B]`; any, at the first base step.
        found: to choose from.

    Returns:
        Its place among them, `[B]`.
    """
    is_open = found.alike[course, :, index]
    is_near = (likeness_db(difficulty[:, None], found.deviation) >= likeness[:, None]) & is_open
    nearest = found.deviation.where(is_open, torch.inf).argmin(dim=1)
    return is_near.int().argmax(dim=1).where(is_near.any(dim=1), nearest)


def likeness_that_spends(budget: float, cost_at: Callable[[float], float]) -> float:
    """The highest likeness, dB to a hundredth, at which tiles take at most `budget` evaluations in the mean.

    Where even the lowest costs more it is the highest that costs no more than that.

    Args:
        budget: evaluations per tile.
        cost_at: the mean cost at a likeness, which grows with it.
    """
    low, high = 0.0, ALL_STEPS_DB
    most = max(budget, cost_at(low))
    if cost_at(high) <= most:
        return high
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if cost_at(middle) <= most else (low, middle)
    return low
