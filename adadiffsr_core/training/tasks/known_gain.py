"""The information gain that the sampler would know at a training step, for feature injection.

At each evaluation the sampler hands over the gain of the one before, which compares that one with its own predecessor
(`turn.Turns.evaluate`). So two earlier visits tell it. Here both lie on the way from the same noise, as a
deterministic solver goes it, and the frozen model's estimates there are rated.
"""

import math

import numpy as np
import torch
from torch import Tensor

from ...gain.information import GainEstimator, information_gain
from ...sampling.schedule import MAX_TIMESTEP
from ...settings import SamplingConfig
from .denoising import NoisyPairs, ScheduledUNet


def draw_intervals(rng: np.random.Generator, count: int, sampling: SamplingConfig) -> Tensor:
    """Base steps from each training step back to its latest visit, and from that to the one before: `[count,2]`."""
    return torch.from_numpy(rng.choice(np.array(sampling.dtss.intervals), size=(count, 2)))


def count_knowing(count: int, sampling: SamplingConfig) -> int:
    """How many of a batch of `count` timesteps of `draw_noise` can have two visits before them, at most.

    They are one of each `count`-th of the schedule, so that the number is known before they are.
    """
    shortest, landing = sampling.dtss.intervals[0], round(sampling.dtss.first_jump * sampling.steps)
    last = MAX_TIMESTEP - 1 - ((landing or shortest) + shortest) * (MAX_TIMESTEP / sampling.steps)
    return min(count, max(1, math.floor((last + 1) / MAX_TIMESTEP * count) + 1))


@torch.no_grad()
def known_gain(
    net: ScheduledUNet,
    estimator: GainEstimator,
    sampling: SamplingConfig,
    pairs: NoisyPairs,
    intervals: Tensor,
    *,
    most: int | None = None,
) -> Tensor:
    """Gains as `controller.decide` finds them at the visit before each training step.

    Source: section 3.4, Eq. 1.

    Args:
        net: without injection, makes the estimates.
        estimator: of quality; it runs in its own precision, since gains are small.
        sampling: its base steps, uniform in timesteps, and where NR gain begins to count.
        pairs: the training step.
        intervals: of `draw_intervals`, on the device of `pairs`.
        most: rows that have two visits before them, at most, of which the others are spared the evaluation; None if
            nobody knows. The rows themselves would have to be asked of the device, which keeps the CPU waiting.

    Returns:
        I_fr and I_nr `[B,2]` in [-1,1]; zero where fewer than two visits lie before, and I_nr where it does not count.
    """
    steps = sampling.steps
    visits = _visits(pairs.timesteps, intervals, sampling)
    is_known = visits[:, 1] >= 0
    rows = torch.argsort(is_known.int(), descending=True, stable=True)[:most]
    known = NoisyPairs(*(part[rows] for part in pairs))
    latest, before = (
        _rate(net, estimator, known, MAX_TIMESTEP - 1 - index * (MAX_TIMESTEP / steps))
        for index in visits[rows].clamp_min(0).unbind(dim=1)
    )
    found = information_gain(latest, before, -visits[rows].diff(dim=1)[:, 0] / steps)
    gain = found.new_zeros(len(is_known), 2).index_copy(0, rows, found)
    is_seen = torch.stack([is_known, is_known & (visits[:, 0] >= sampling.dtss.nr_from * steps)], dim=1)
    return gain.where(is_seen, torch.zeros_like(gain))


def _visits(timesteps: Tensor, intervals: Tensor, sampling: SamplingConfig) -> Tensor:
    """Base indices of the latest visit and of the one before, `[B,2]`; negative where there was none."""
    steps = sampling.steps
    here = (MAX_TIMESTEP - 1 - timesteps) * (steps / MAX_TIMESTEP)
    latest, before = (here[:, None] - intervals.cumsum(dim=1)).unbind(dim=1)
    # Where the sampler jumps first, what lies before its landing is the noisiest level alone.
    if landing := round(sampling.dtss.first_jump * steps):
        before = before.where(before >= landing, (latest >= landing).float() - 1)
    return torch.stack([latest, before], dim=1)


def _rate(net: ScheduledUNet, estimator: GainEstimator, pairs: NoisyPairs, timesteps: Tensor) -> Tensor:
    """Quality `[B,2]` of the frozen model's estimates at these timesteps, between whole ones too."""
    sigma = net.schedule.timestep_to_sigma(timesteps)
    x = net.schedule.add_noise(pairs.gt, pairs.noise, sigma)
    return estimator.quality(net.estimate(x, pairs.lq, sigma), pairs.lq, sigma)[:, :2]
