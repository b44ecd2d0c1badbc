"""The bounded rule: each tile takes as few evaluations as keep it near what all steps would give.

Pure functions. What is left of a tile's denoising is spread evenly over its further evaluations, the last of which is
at the last base step; the rule chooses how many they are.

Source: decision D71. How far a tile ends from all steps is taken to be `difficulty * deviation`: the tile's own part,
which an estimator guesses, and that of its jumps, which is the same for all.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# Deviation of runs of so many evaluations in equal jumps, log10, as `python -m benchmarks.likeness --even` prints it,
# but that more jumps are never worse: measured were -0.61, -0.32, -0.37 by nine to eleven, 0.25 and 0.28 by five and
# six. That of jumps of a sixth is its unit.
_EVALUATIONS = np.array([13, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2])
_SHARES = -np.log10(_EVALUATIONS - 1)
_DEVIATIONS = np.array([-0.90, -0.46, -0.43, -0.40, -0.26, 0.0, 0.24, 0.29, 0.58, 0.74, 1.05])
# Of a tile that nothing is known of, which may be one of the harder ones: log10 of its mean squared error, levels in
# [0,1], by jumps of a sixth. The mean is -4.1, and one in ten is harder than this.
UNKNOWN_DIFFICULTY = -3.69
# By which guesses are mistrusted: chosen for nineteen of twenty tiles to be as near as was promised; eight to nine of
# ten are (`docs/results/likeness.md`).
MARGIN_DB = 2.0
MASK_DB = 24.0  # that the compute mask moves the likeness by, from its darkest to its brightest


def deviation(jump: Tensor, steps: int) -> Tensor:
    """What a jump adds to a tile's deviation.

    Args:
        jump: base steps that it covers, 1 to N; integers of any shape.
        steps: base steps N.

    Returns:
        float64, the same shape; 0 for jumps of one base step.
    """
    return _deviations(steps)[jump]


@lru_cache(maxsize=8)
def _deviations(steps: int) -> Tensor:
    """Of jumps of 0 to N base steps, `[N+1]`; beyond what was measured, the slope goes on."""
    share = np.arange(1, steps + 1) / max(1, steps - 1)
    place = np.log10(share)
    below = (place - _SHARES[0]).clip(max=0) * (_DEVIATIONS[1] - _DEVIATIONS[0]) / (_SHARES[1] - _SHARES[0])
    law = 10 ** (np.interp(place, _SHARES, _DEVIATIONS) + below)
    return torch.from_numpy(np.concatenate([[0.0], share * (law - law[0]).clip(min=0)]))


def next_jump(left: Tensor, more: Tensor) -> Tensor:
    """Base steps of the next jump where `left` are spread evenly over `more` evaluations, whole and at least 1."""
    return torch.div(2 * left + more, 2 * more, rounding_mode="floor").clamp_min(1)


def even_path(steps: int, evaluations: int) -> list[int]:
    """Base indices of so many evaluations, evenly spread from the first step to the last of N."""
    path, left = [0], steps - 1
    for more in range(min(evaluations, steps) - 1, 0, -1):
        path.append(path[-1] + int(next_jump(torch.tensor(left), torch.tensor(more))))
        left = steps - 1 - path[-1]
    return path


def spread_deviation(left: Tensor, more: Tensor, steps: int) -> Tensor:
    """What `left` base steps add to the deviation, spread evenly over `more` evaluations.

    Args:
        left: base steps to the last one.
        more: evaluations, from 1 to `left`.
        steps: base steps N.
    """
    short, longer = left // more, left % more
    return (more - longer) * deviation(short.clamp_min(1), steps) + longer * deviation(short + 1, steps)


def likeness_db(difficulty: Tensor, total: Tensor) -> Tensor:
    """PSNR to what all steps would give, dB, of tiles of a difficulty (log10) and a deviation; infinite for none."""
    return -10 * (difficulty + total.log10())


def evaluations_needed(left: Tensor, spent: Tensor, difficulty: Tensor, likeness: Tensor, steps: int) -> Tensor:
    """The fewest further evaluations that keep tiles within a likeness; all that are left where none do.

    Args:
        left: base steps to the last one, `[B]`, from 0.
        spent: deviation of the jumps taken, `[B]`.
        difficulty: log10, `[B]`.
        likeness: dB, `[B]`.
        steps: base steps N.

    Returns:
        `[B]`, at most `left`, and 0 only where nothing is left.
    """
    more = torch.arange(1, max(2, steps))
    total = spent[:, None] + spread_deviation(left[:, None], torch.minimum(more, left.clamp_min(1)[:, None]), steps)
    is_near = likeness_db(difficulty[:, None], total) >= likeness[:, None]
    # argmax finds the first; where there is none, what is left is taken step by step.
    first = torch.where(is_near.any(dim=1), is_near.to(torch.uint8).argmax(dim=1) + 1, left)
    return torch.minimum(first, left)


def likeness_that_spends(budget: float, cost_at: Callable[[float], float]) -> float:
    """The highest likeness, dB to a hundredth, at which tiles take at most `budget` evaluations in the mean.

    Args:
        budget: evaluations per tile.
        cost_at: the mean cost at a likeness, which grows with it.
    """
    low, high = 0.0, 100.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if cost_at(middle) <= budget else (low, middle)
    return low
