"""The loop on one tile, against naive references and denoisers whose answers are known."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.sampling.noise import keyed_noise
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles
from tests.core.sampling.jobs import MODES, ONE_TILE, SIXTEEN, draw, equal, make_job, run, stories
from tests.oracles import REFERENCES, SCRIPTED, Mixture, PointMass, euler_ancestral_flow, hold, jump_indices

DETERMINISTIC = ["ddim", "euler", "dpmpp_2m"]


def noise_at(job, index):
    return keyed_noise(
        job.seed, torch.tensor([index]), torch.zeros(1, 3, dtype=torch.long), (4, *job.grid.tile)
    ).double()


# --- One tile, equal intervals: the naive loops.


# The papers' formulas of ddpm and ddim are for the variance-preserving process alone.
WITH_FLOW = [(solver, "v") for solver in REFERENCES] + [
    (solver, "flow") for solver in ("euler", "euler_ancestral", "dpmpp_2m")
]


@pytest.mark.parametrize("interval", [1, 2, 3, 4])
@pytest.mark.parametrize(("solver", "prediction"), WITH_FLOW)
def test_one_tile_sampled_alone_is_the_naive_loop_on_fewer_sigmas(solver, prediction, interval):
    job = make_job(solver=solver, prediction=prediction, dtss=equal(interval), steps=22)
    reference = euler_ancestral_flow if (solver, prediction) == ("euler_ancestral", "flow") else REFERENCES[solver]
    indices = jump_indices(22, interval)
    sigmas = [float(job.codebook.sigmas[i]) for i in indices]
    denoise = job.denoiser.inner.on_tile(0)
    expected = reference(denoise, job.x.double(), sigmas, lambda i: noise_at(job, indices[i]))
    estimate, report = run(job)
    torch.testing.assert_close(estimate.double(), expected, rtol=0, atol=1e-5)
    assert report.nfe == len(job.denoiser.calls) == len(indices) - 1


@pytest.mark.parametrize("interval", [1, 2, 3, 4])
@pytest.mark.parametrize("solver", REFERENCES)
def test_one_tile_on_the_canvas_is_the_naive_loop_with_a_held_estimate(solver, interval):
    job = make_job(solver=solver, dtss=equal(interval), steps=22)
    sigmas = job.codebook.sigmas.tolist()
    denoise = hold(job.denoiser.inner.on_tile(0), interval)
    expected = REFERENCES[solver](denoise, job.x.double(), sigmas, lambda i: noise_at(job, i))
    estimate, report = run(job, "every_step")
    torch.testing.assert_close(estimate.double(), expected, rtol=0, atol=1e-5)
    assert report.nfe == len(job.denoiser.calls) == -(-22 // interval)


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("solver", ["ddim", "ddpm", "euler_ancestral"])
def test_eta_arrives(solver, eta):
    job = make_job(solver=solver, eta=eta)
    sigmas = job.codebook.sigmas.tolist()
    denoise = job.denoiser.inner.on_tile(0)
    if solver == "ddpm":  # with eta it is DDIM, Eq. 16
        solver = "ddim"
    expected = REFERENCES[solver](denoise, job.x.double(), sigmas, lambda i: noise_at(job, i), eta)
    torch.testing.assert_close(run(job)[0].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("solver", REFERENCES)
def test_both_merges_agree_on_one_tile_where_every_step_is_taken(solver):
    first, second = (run(make_job(solver=solver), mode)[0] for mode in MODES)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prediction", ["v", "flow"])
@pytest.mark.parametrize("solver", ["ddim", "euler"])
@pytest.mark.parametrize("story", ["SSGSSSGGGS", "GGSSSSSS", "SSSSX", "SGSGSGX"])
def test_both_merges_agree_on_one_tile_for_adaptive_intervals(story, solver, prediction):
    jobs = [make_job(solver=solver, prediction=prediction, dtss=SCRIPTED, estimator=stories(story)) for _ in range(2)]
    (first, report), (second, other) = (run(job, mode) for job, mode in zip(jobs, MODES, strict=True))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert [step.index for step in report.tiles[0].steps] == [step.index for step in other.tiles[0].steps]
    assert report.nfe < 24


def test_a_held_estimate_is_no_second_order_jump():
    """`dpmpp_2m` on the canvas falls back to first order wherever steps are skipped, as documented."""
    first, second = (run(make_job(solver="dpmpp_2m", dtss=equal(3)), mode)[0] for mode in MODES)
    assert (first - second).abs().max() > 1e-3


# --- Denoisers with known answers.


@settings(max_examples=25, deadline=None)
@given(
    solver=st.sampled_from(list(REFERENCES)),
    prediction=st.sampled_from(["v", "flow"]),
    mode=st.sampled_from(list(MODES)),
    texts=st.lists(st.text("GSX", min_size=1, max_size=12), min_size=1, max_size=6),
)
def test_a_point_mass_is_hit_to_the_bit_by_any_skip_pattern(solver, prediction, mode, texts):
    job = make_job(SIXTEEN, solver=solver, prediction=prediction, dtss=SCRIPTED, estimator=stories(*texts))
    mu = draw(1, 4, *SIXTEEN.padded, seed=5)
    estimates, _ = run(replace(job, denoiser=PointMass(mu, SIXTEEN)), mode)
    assert torch.equal(estimates, crop_tiles(mu, SIXTEEN, range(16)))


def gaussian_error(solver, interval):
    """Distance from the exact end of the probability flow of Gaussian data."""
    job = make_job(solver=solver, steps=48, dtss=equal(interval))
    variance, mean = 0.3, job.denoiser.inner.mean
    gaussian = Mixture(job.denoiser.inner.schedule, mean, ONE_TILE, variance=variance, spread=0.0)
    shrink = (variance / (variance + float(job.codebook.sigmas[0]) ** 2)) ** 0.5
    exact = mean + (job.x - mean) * shrink
    return float((run(replace(job, denoiser=gaussian))[0] - exact).square().mean().sqrt())


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_for_gaussian_data_the_error_grows_with_the_interval(solver):
    errors = [gaussian_error(solver, interval) for interval in (1, 2, 3, 4, 6, 12)]
    assert errors == sorted(errors)
    assert errors[0] < 0.05 < 4 * errors[0] < errors[-1]


def test_second_order_is_nearer_than_first():
    errors = {solver: [gaussian_error(solver, interval) for interval in (1, 2, 4)] for solver in DETERMINISTIC}
    assert all(second < first for second, first in zip(errors["dpmpp_2m"], errors["euler"], strict=True))
    assert errors["dpmpp_2m"][0] < errors["euler"][0] / 2


@pytest.mark.parametrize("solver", ["ddpm", "euler_ancestral"])
def test_stochastic_solvers_sample_the_data_they_were_told_of(solver):
    grid = build_grid(48, 48, 48, 0)
    job = make_job(grid, solver=solver, steps=200)
    mean = torch.full_like(job.x, 0.5)
    gaussian = Mixture(job.denoiser.inner.schedule, mean, grid, variance=0.3, spread=0.0)
    sample, _ = run(replace(job, denoiser=gaussian, x=draw(*job.x.shape) * float(job.codebook.sigmas[0])))
    assert float(sample.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(sample.var()) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("solver", REFERENCES)
def test_a_flow_model_starts_at_sigma_1(solver):
    job = make_job(solver=solver, prediction="flow", steps=6)
    assert float(job.codebook.sigmas[0]) == 1.0
    estimate, _ = run(job)
    assert estimate.isfinite().all()
    assert estimate.abs().max() < 10
