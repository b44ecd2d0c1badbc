"""The information gain that the sampler would know at a training step, for feature injection.

At each evaluation the sampler hands over the gain of the one before, which compares that one with its own predecessor
(`turn.Turns.evaluate`). So two earlier visits tell it. Here both lie on the way from the same noise, as a
deterministic solver goes it, and the frozen model's estimates there are rated.
"""

import numpy as np
import torch
from torch import Tensor

from ..gain import GainEstimator, information_gain
from ..pipeline import Model, SamplingConfig
from ..schedule import MAX_TIMESTEP
from .denoising import NoisyPairs, predict


def draw_intervals(rng: np.random.Generator, count: int, sampling: SamplingConfig) -> Tensor:
    """Base steps from each training step back to its latest visit, and from that to the one before: `[count,2]`."""
    return torch.from_numpy(rng.choice(np.array(sampling.dtss.intervals), size=(count, 2)))


@torch.no_grad()
def known_gain(
    model: Model,
    estimator: GainEstimator,
    sampling: SamplingConfig,
    pairs: NoisyPairs,
    intervals: Tensor,
    *,
    bfloat16: bool,
) -> Tensor:
    """Gains as `controller.decide` finds them at the visit before each training step.

    Source: section 3.4, Eq. 1.

    Args:
        model: whose UNet, without injection, makes the estimates.
        estimator: of quality.
        sampling: its base steps, uniform in timesteps, and where NR gain begins to count.
        pairs: the training step.
        intervals: of `draw_intervals`.
        bfloat16: autocast of the UNet; the estimator runs in its own precision, since gains are small.

    Returns:
        I_fr and I_nr `[B,2]` in [-1,1]; zero where fewer than two visits lie before, and I_nr where it does not count.
    """
    steps = sampling.steps
    here = (MAX_TIMESTEP - 1 - pairs.timesteps) * (steps / MAX_TIMESTEP)
    visits = here[:, None] - intervals.cumsum(dim=1)
    # Where the sampler jumps first, what lies before its landing is the noisiest level alone.
    landing = round(sampling.dtss.first_jump * steps)
    if landing:
        visits[:, 1] = visits[:, 1].where(visits[:, 1] >= landing, (visits[:, 0] >= landing).float() - 1)
    gain = torch.zeros(len(here), 2)
    rows = torch.nonzero(visits[:, 1] >= 0).flatten()
    known = NoisyPairs(*(part[rows] for part in pairs))
    latest, before = (
        _rate(model, estimator, known, MAX_TIMESTEP - 1 - index * (MAX_TIMESTEP / steps), bfloat16=bfloat16)
        for index in visits[rows].unbind(dim=1)
    )
    gain[rows] = information_gain(latest, before, -visits[rows].diff(dim=1)[:, 0] / steps)
    gain[:, 1] *= visits[:, 0] >= sampling.dtss.nr_from * steps
    return gain


def _rate(model: Model, estimator: GainEstimator, pairs: NoisyPairs, timesteps: Tensor, *, bfloat16: bool) -> Tensor:
    """Quality `[B,2]` of the frozen model's estimates at these timesteps, between whole ones too."""
    sigma = model.schedule.timestep_to_sigma(timesteps)
    x = model.schedule.add_noise(pairs.gt, pairs.noise, sigma)
    output = predict(model.unet, model.schedule, x, pairs.lq, sigma, bfloat16=bfloat16)
    return estimator.quality(model.schedule.output_to_denoised(output, x, sigma), pairs.lq, sigma)
