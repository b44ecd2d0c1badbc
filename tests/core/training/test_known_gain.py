"""Gains of pairs without a walk: as the sampler's own controller would know them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adadiffsr_core.models.processor import Processor
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.sampling.controller import decide, start_states
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.training.tasks.denoising import NoisyPairs, draw_noise
from adadiffsr_core.training.tasks.known_gain import count_knowing, draw_intervals, known_gain
from tests.core.training.injected import CPU, ESTIMATORS, EVERYDAY, scheduled
from tests.oracles import tiny_model


def gain_of_one(model, estimator, sampling, gt, lq, noise, timestep, intervals):
    """The sampler's own denoiser and controller, on the two visits before."""
    steps, grid = sampling.steps, build_grid(8, 8, 8, 0, 2)
    latest = (999 - timestep) / 1000 * steps - intervals[0]
    before, landing = latest - intervals[1], sampling.dtss.first_jump * steps
    if before < landing <= latest and landing:
        before = 0.0
    if before < 0 or latest < landing:
        return torch.zeros(2), latest
    states = start_states(1, sampling.dtss)
    for place, since in ((before, 0), (latest, latest - before)):
        sigma = model.schedule.timestep_to_sigma(torch.tensor([999 - place / steps * 1000]))
        with torch.no_grad():
            x = model.schedule.add_noise(gt, noise, sigma)
            denoised = UNetDenoiser(model.unet, model.schedule, lq, grid)(x, sigma, [0], None)
        here = replace(states, index=torch.tensor([place]), interval=torch.tensor([since]))
        states = decide(here, estimator.quality(denoised, lq, sigma), sampling.dtss, steps).states
    return states.gain[0], latest


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("first_jump", [0.0, 0.25])
@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_gains_are_those_of_the_controller_at_the_visit_before(estimator, prediction, first_jump):
    model, rng = tiny_model(Schedule(prediction)), np.random.default_rng(1)
    sampling = replace(EVERYDAY, dtss=DtssConfig(intervals=(1, 2, 5), nr_from=0.4, first_jump=first_jump))
    gt, lq = torch.randn(2, 24, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    timesteps, noise = draw_noise(gt, CPU.generator(1, 0))
    intervals = draw_intervals(rng, 24, sampling)
    drawn = NoisyPairs(gt, lq, noise, timesteps)
    gains = known_gain(scheduled(model), ESTIMATORS[estimator], sampling, drawn, intervals)
    seen = set()
    for row in range(24):
        one = (part[row : row + 1] for part in (gt, lq, noise))
        args = (*one, int(timesteps[row]), intervals[row].tolist())
        expected, latest = gain_of_one(model, ESTIMATORS[estimator], sampling, *args)
        torch.testing.assert_close(gains[row], expected, rtol=1e-3, atol=2e-6)
        seen.add("none" if not expected.any() else "both" if latest >= 0.4 * 24 else "fr")
        assert bool(gains[row, 1]) == (latest >= 0.4 * 24 and bool(gains[row, 0]))
    assert seen == {"none", "fr", "both"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_where_no_tile_has_been_seen_twice_there_is_no_gain(estimator):
    model, gt = tiny_model(), torch.randn(3, 4, 8, 8)
    drawn = NoisyPairs(gt, gt, torch.randn(3, 4, 8, 8), torch.tensor([999, 990, 960]))
    intervals = torch.ones(3, 2, dtype=torch.long)
    net = scheduled(model, Processor(bfloat16=True))
    gain = known_gain(net, ESTIMATORS[estimator], EVERYDAY, drawn, intervals)
    assert torch.equal(gain, torch.zeros(3, 2))


@pytest.mark.parametrize("first_jump", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("count", [3, 8, 24])
def test_who_can_know_a_gain_is_counted_without_looking(count, first_jump):
    """With as many rows as may know one, gains are those of all rows, whatever the draw."""
    sampling = replace(EVERYDAY, dtss=DtssConfig(intervals=(1, 2), first_jump=first_jump))
    model, most = tiny_model(), count_knowing(count, sampling)
    known = []
    for seed in range(6):
        gt, lq = torch.randn(2, count, 4, 4, 4, generator=CPU.generator(seed, 1))
        timesteps, noise = draw_noise(gt, CPU.generator(seed, 0))
        drawn = NoisyPairs(gt, lq, noise, timesteps)
        intervals = draw_intervals(np.random.default_rng(seed), count, sampling)
        args = (scheduled(model), ESTIMATORS["statistics"], sampling, drawn, intervals)
        gain = known_gain(*args)
        torch.testing.assert_close(known_gain(*args, most=most), gain, rtol=1e-4, atol=1e-7)
        known.append(int(gain.any(dim=1).sum()))
    assert 0 < max(known) <= most
    if first_jump == 0.5 and count >= 8:
        assert most <= count / 2  # the jump leaves 11 of 24 base steps, and one of them is the first visit


def test_intervals_are_those_of_the_ladder():
    drawn = draw_intervals(np.random.default_rng(0), 400, EVERYDAY)
    assert drawn.shape == (400, 2)
    for column in drawn.T:
        assert {interval: 60 < int((column == interval).sum()) < 140 for interval in (1, 2, 3, 4)} == dict.fromkeys(
            EVERYDAY.dtss.intervals, True
        )
