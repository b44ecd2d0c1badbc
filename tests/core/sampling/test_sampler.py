"""The loop on one tile against naive references, and on many against the invariants of continuous batching."""

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, DenoiserError
from adadiffsr_core.sampling.canvaswise import sample_canvas
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.merge import TileMerger
from adadiffsr_core.sampling.noise import keyed_noise
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles
from adadiffsr_core.sampling.tilewise import sample_tiles
from adadiffsr_core.sampling.turn import Job, Turns
from tests.oracles import (
    REFERENCES,
    SCRIPTED,
    Counting,
    Mixture,
    PointMass,
    Scripted,
    euler_ancestral_flow,
    hold,
    jump_indices,
    mark_tiles,
    write_script,
)

ONE_TILE = build_grid(8, 8, 8, 0)
SIXTEEN = build_grid(20, 20, 8, 4)  # 4x4 tiles, overlapping by half
SEED = 7
MODES = {"final": sample_tiles, "every_step": sample_canvas}
DETERMINISTIC = ["ddim", "euler", "dpmpp_2m"]


def equal(interval):
    return DtssConfig(intervals=(interval,) * 4, early_exit=False)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_job(grid=ONE_TILE, *, steps=24, solver="euler", eta=None, prediction="v", images=1, dtss=None, **fields):
    """A job on a mixture about a random picture; the estimator reads tile ids from `lq_latent`."""
    schedule = Schedule(prediction)
    sigmas = schedule.build_sigmas(steps)
    picture = draw(images, 4, *grid.padded, seed=1)
    job = Job(
        denoiser=Counting(Mixture(schedule, picture, grid)),
        timesteps=schedule.sigma_to_timestep(sigmas[:-1]),
        codebook=build_codebook(sigmas, solver, eta, schedule),
        grid=grid,
        lq_latent=mark_tiles(grid, images),
        x=schedule.start(picture, draw(images, 4, *grid.padded, seed=2), float(sigmas[0])),
        dtss=dtss or equal(1),
        seed=SEED,
    )
    return replace(job, **fields)


def run(job, mode="final"):
    """Estimates of all tiles `[T,C,h,w]` by id, and the report."""
    done = {}

    def sink(ids, tiles):
        assert not done.keys() & set(ids)
        done.update(zip(ids, tiles.clone(), strict=True))

    report = MODES[mode](job, sink)
    return torch.stack([done[tile_id] for tile_id in sorted(done)]), report


def noise_at(job, index):
    return keyed_noise(
        job.seed, torch.tensor([index]), torch.zeros(1, 3, dtype=torch.long), (4, *job.grid.tile)
    ).double()


def stories(*texts, tiles=16):
    return Scripted([write_script(texts[tile % len(texts)]) for tile in range(tiles)])


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


# --- Many tiles.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("solver", REFERENCES)
def test_the_batch_changes_nothing(solver, mode):
    texts = ("SSSS", "GGSSX", "SGSG", "GGG", "SSSSSX")
    results = {}
    for tile_batch in (1, 3, 8, 16):
        job = make_job(
            SIXTEEN, solver=solver, images=2, dtss=SCRIPTED, tile_batch=tile_batch, estimator=stories(*texts, tiles=32)
        )
        results[tile_batch], report = run(job, mode)
        assert max(report.calls) <= tile_batch
    for tile_batch in (3, 8, 16):
        torch.testing.assert_close(results[tile_batch], results[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("solver", REFERENCES)
def test_a_tile_is_the_same_whoever_else_runs(solver):
    whole, _ = run(make_job(SIXTEEN, solver=solver, dtss=equal(2)))
    chosen = [13, 6, 2]
    compute = torch.zeros(16)
    compute[chosen] = 0.5
    some, _ = run(make_job(SIXTEEN, solver=solver, dtss=equal(2), compute=compute, tile_batch=2))
    torch.testing.assert_close(some[chosen], whole[chosen], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("solver", REFERENCES)
def test_no_tile_sees_what_memory_held_before(solver, mode, monkeypatch):
    """Places are used again and again, and new ones hold whatever was there."""
    job = make_job(SIXTEEN, solver=solver, dtss=SCRIPTED, estimator=stories("SSSS", "GGGX", "SX", "GGSS"))
    expected, _ = run(job, mode)
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *size: self.new_full(size, torch.nan))
    job = make_job(SIXTEEN, solver=solver, dtss=SCRIPTED, estimator=stories("SSSS", "GGGX", "SX", "GGSS"))
    found, _ = run(job, mode)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("solver", REFERENCES)
@pytest.mark.parametrize("tile_batch", [1, 3, 5, 16])
def test_launching_the_next_batch_before_the_last_is_settled_changes_nothing(solver, mode, tile_batch):
    results = []
    for ahead in (1, 2, 3):
        done, estimator = {}, stories("SSSS", "GGGX", "SX", "GGSS")
        job = make_job(SIXTEEN, solver=solver, dtss=SCRIPTED, estimator=estimator, tile_batch=tile_batch)
        report = MODES[mode](job, lambda ids, tiles, done=done: done.update(zip(ids, tiles, strict=True)), ahead)
        results.append((torch.stack([done[tile_id] for tile_id in range(16)]), [tile.steps for tile in report.tiles]))
    (first, steps), *others = results
    for tiles, taken in others:
        torch.testing.assert_close(tiles, first, rtol=0, atol=1e-5)
        assert taken == steps


@pytest.mark.parametrize("tile_batch", [2, 4, 5])
def test_no_tile_is_in_two_batches_at_once_and_batches_stay_full(tile_batch, monkeypatch):
    under_way, most = [], []

    def launch(self, ids, x, lq_latent, inner=Turns.launch):
        assert not set(ids) & {tile_id for batch in under_way for tile_id in batch}
        under_way.append(list(ids))
        most.append(len(under_way))
        return inner(self, ids, x, lq_latent)

    def settle(self, batch, inner=Turns.settle):
        under_way.remove(list(batch.ids))
        return inner(self, batch)

    monkeypatch.setattr(Turns, "launch", launch)
    monkeypatch.setattr(Turns, "settle", settle)
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SSSS", "GGGX", "GGSS"), tile_batch=tile_batch)
    report = sample_tiles(job, lambda ids, tiles: None, ahead=2)
    assert max(most) == 2
    assert report.occupancy > 0.9
    assert under_way == []


@pytest.mark.parametrize("mode", MODES)
def test_images_of_a_batch_do_not_meet(mode):
    job = make_job(SIXTEEN, images=3, dtss=equal(2))
    together, _ = run(job, mode)
    for image in range(3):
        mixture = Mixture(job.denoiser.inner.schedule, job.denoiser.inner.mean[image : image + 1], SIXTEEN)
        lq_latent, x = job.lq_latent[image : image + 1], job.x[image : image + 1]
        alone, _ = run(replace(job, denoiser=mixture, lq_latent=lq_latent, x=x), mode)
        torch.testing.assert_close(together[image * 16 : image * 16 + 16], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_evaluations_are_counted_as_they_were_made(mode):
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SSSS", "GGGX", "SX", "GGSS"), tile_batch=5)
    _, report = run(job, mode)
    assert report.nfe == sum(report.calls) == sum(job.denoiser.spent.values())
    assert list(report.calls) == [len(tiles) for tiles, _ in job.denoiser.calls]
    for tile_id, tile in enumerate(report.tiles):
        asked = [
            sigma
            for tiles, sigmas in job.denoiser.calls
            for t, sigma in zip(tiles, sigmas, strict=True)
            if t == tile_id
        ]
        assert asked == [float(job.codebook.sigmas[step.index]) for step in tile.steps]
        assert [step.target for step in tile.steps[:-1]] == [step.index for step in tile.steps[1:]]
    assert report.seconds > 0


@pytest.mark.parametrize("mode", MODES)
def test_scripted_tiles_take_exact_steps_in_the_loop(mode):
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("S" * 24, "G" * 24, "SSSSX", "X"))
    _, report = run(job, mode)
    assert [tile.nfe for tile in report.tiles] == [8, 24, 6, 2] * 4
    assert [tile.outcome for tile in report.tiles] == ["stable", "growing", "saturated", "saturated"] * 4


class Remembering(Counting):
    """Keeps every estimate, by tile."""

    def __init__(self, inner):
        super().__init__(inner)
        self.estimates = {}

    def __call__(self, x, sigma, tiles, gain):
        denoised = super().__call__(x, sigma, tiles, gain)
        for tile, estimate in zip(tiles, denoised, strict=True):
            self.estimates.setdefault(tile, []).append(estimate)
        return denoised


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("nr", "best"), [((0.1, 0.4, 0.3), 1), ((0.5, 0.497, 0.494, 0.3), 0), ((0.1, 0.1, 0.05), 0)])
def test_a_saturated_tile_stops_with_its_best_estimate(nr, best, mode):
    script = [(0.1, value) for value in nr]
    others = write_script("G" * 24)
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=Scripted([script] + [others] * 15))
    job = replace(job, denoiser=Remembering(job.denoiser.inner))
    estimates, report = run(job, mode)
    assert report.tiles[0].nfe == job.denoiser.spent[0] == len(nr)
    assert report.tiles[0].outcome == "saturated"
    assert torch.equal(estimates[0], job.denoiser.estimates[0][best])
    assert torch.equal(estimates[1], job.denoiser.estimates[1][-1])


@pytest.mark.parametrize("mode", MODES)
def test_the_gain_of_the_evaluation_before_reaches_the_network(mode):
    class Listening(Counting):
        def __call__(self, x, sigma, tiles, gain):
            heard.extend(gain[tiles.index(0)].tolist() for _ in range(tiles.count(0)))
            return super().__call__(x, sigma, tiles, gain)

    heard = []
    job = make_job(dtss=SCRIPTED, estimator=stories("GSGG"))
    _, report = run(replace(job, denoiser=Listening(job.denoiser.inner)), mode)
    reported = [[step.fr_gain, step.nr_gain] for step in report.tiles[0].steps]
    assert heard == [[0.0, 0.0], *reported[:-1]]
    assert reported[1][0] > 0


# --- The compute mask.


@pytest.mark.parametrize("mode", MODES)
def test_untouched_tiles_are_never_evaluated_and_come_back_to_the_bit(mode):
    compute = torch.full((16,), 0.5)
    compute[[0, 5, 15]] = 0.0
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SGX"), compute=compute)
    estimates, report = run(job, mode)
    assert job.denoiser.spent.keys() == set(range(16)) - {0, 5, 15}
    assert torch.equal(estimates[[0, 5, 15]], crop_tiles(job.lq_latent, SIXTEEN, [0, 5, 15]))
    assert [report.tiles[tile].outcome for tile in (0, 5, 15)] == ["untouched"] * 3


@pytest.mark.parametrize("mode", MODES)
def test_a_level_of_1_takes_every_step(mode):
    compute = torch.full((16,), 0.5)
    compute[3] = 1.0
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SSSSSX"), compute=compute)
    _, report = run(job, mode)
    assert report.tiles[3].nfe == 24
    assert report.tiles[4].nfe == 7


@pytest.mark.parametrize("mode", MODES)
def test_nothing_to_do_is_nothing_done(mode):
    job = make_job(SIXTEEN, compute=torch.zeros(16))
    estimates, report = run(job, mode)
    assert torch.equal(estimates, crop_tiles(job.lq_latent, SIXTEEN, range(16)))
    assert (report.nfe, report.calls, job.denoiser.calls) == (0, (), [])


# --- Estimators that are not needed, or missing.


class Forbidden:
    def quality(self, denoised, lq_latent, sigma):
        raise AssertionError("asked for quality")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("estimator", [None, Forbidden()])
def test_equal_intervals_without_early_exit_need_no_estimator(estimator, mode):
    _, report = run(make_job(SIXTEEN, dtss=equal(4), estimator=estimator), mode)
    assert report.nfe == 6 * 16


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rule", [DtssConfig(), DtssConfig(early_exit=False), DtssConfig(intervals=(2, 3))])
def test_adaptive_steps_need_one(rule, mode):
    job = make_job(dtss=rule)
    with pytest.raises(ConfigError, match="gain estimator"):
        run(job, mode)
    assert job.denoiser.calls == []


# --- Batches.


@pytest.mark.parametrize("mode", MODES)
def test_no_batch_straddles_a_boundary_of_the_conditioning(mode):
    job = make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SSSS", "GGGG", "SGSG"), tile_batch=8)
    sigmas = job.codebook.sigmas.tolist()
    boundaries = [(sigmas[4] + sigmas[5]) / 2, (sigmas[15] + sigmas[16]) / 2]
    job = replace(job, denoiser=Counting(job.denoiser.inner, boundaries))
    estimates, _ = run(job, mode)
    mixed = 0
    for _, asked in job.denoiser.calls:
        assert len({sum(sigma > edge for edge in boundaries) for sigma in asked}) == 1
        mixed += len(set(asked)) > 1
    assert mixed or mode == "every_step"
    free, _ = run(make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SSSS", "GGGG", "SGSG")), mode)
    torch.testing.assert_close(estimates, free, rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [16, 24, 32, 64, 100])
def test_batches_stay_full_for_tiles_of_mixed_lengths(count):
    draws = random.Random(1)
    kinds = ["S", "G", "SG", "SSSSSX", "GGGGX", "GGSSSX"]
    texts = ["".join(draws.choice(draws.choice(kinds)) for _ in range(40)) for _ in range(count)]
    grid = build_grid(8 * count, 8, 8, 0)
    _, report = run(make_job(grid, dtss=DtssConfig(), estimator=stories(*texts, tiles=count), tile_batch=8))
    lengths = [tile.nfe for tile in report.tiles]
    assert max(lengths) - min(lengths) >= 3
    assert report.occupancy >= 0.95


def test_memory_is_that_of_the_tiles_in_flight():
    """No more tiles are begun and unfinished at once than four batches or a row hold."""
    grid = build_grid(8 * 12, 8 * 5, 8, 0)
    job = make_job(grid, dtss=equal(4), tile_batch=2)
    begun, finished, most = set(), set(), 0

    class Watching(Counting):
        def __call__(self, x, sigma, tiles, gain):
            nonlocal most
            begun.update(tiles)
            most = max(most, len(begun - finished))
            return super().__call__(x, sigma, tiles, gain)

    sample_tiles(replace(job, denoiser=Watching(job.denoiser.inner)), lambda ids, tiles: finished.update(ids))
    assert len(finished) == 60
    assert most <= 8


@pytest.mark.parametrize("mode", MODES)
def test_a_device_that_is_too_small_changes_only_the_batches(mode):
    class Cramped(Counting):
        def __call__(self, x, sigma, tiles, gain):
            if len(x) > 3:
                raise torch.OutOfMemoryError("full")
            return super().__call__(x, sigma, tiles, gain)

    def build():
        return make_job(SIXTEEN, dtss=SCRIPTED, estimator=stories("SSSS", "GGGX"), solver="ddpm")

    job = build()
    cramped = replace(job, denoiser=Cramped(job.denoiser.inner))
    (estimates, report), (expected, roomy) = run(cramped, mode), run(build(), mode)
    torch.testing.assert_close(estimates, expected, rtol=0, atol=1e-5)
    assert max(report.calls) == 2
    assert [tile.nfe for tile in report.tiles] == [tile.nfe for tile in roomy.tiles]
    assert sum(report.calls) == sum(cramped.denoiser.spent.values())


def test_a_merged_constant_stays_constant():
    job = make_job(SIXTEEN, solver="ddpm", dtss=SCRIPTED, estimator=stories("SG", "GX"))
    merger = TileMerger(SIXTEEN)
    sample_tiles(replace(job, denoiser=PointMass(torch.full_like(job.x, 0.37), SIXTEEN)), merger.add)
    torch.testing.assert_close(merger.finish(), torch.full((1, 4, 20, 20), 0.37), rtol=0, atol=1e-6)


# --- What goes wrong.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
def test_nan_is_reported_with_its_tile_and_step(poison, mode):
    class Poisoned(Counting):
        def __call__(self, x, sigma, tiles, gain):
            denoised = super().__call__(x, sigma, tiles, gain)
            if 6 in tiles and self.spent[6] == 3:
                denoised[tiles.index(6), 2, 1, 1] = poison
            return denoised

    job = make_job(SIXTEEN, dtss=equal(2))
    job = replace(job, denoiser=Poisoned(job.denoiser.inner))
    timestep = int(Schedule("v").sigma_to_timestep(job.codebook.sigmas[4:5]))
    with pytest.raises(DenoiserError, match=rf"tile 6 at step 4 of 24 \(timestep {timestep}\)"):
        run(job, mode)


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turns", [1, 5])
def test_cancelling_ends_the_run_within_one_call(turns, mode):
    told = []

    def on_step(progress):
        told.append(progress)
        if len(told) == turns:
            raise CancelledError

    job = make_job(SIXTEEN, dtss=equal(1), on_step=on_step)
    with pytest.raises(CancelledError):
        run(job, mode)
    assert len(job.denoiser.calls) == turns


# --- Progress.


def watch(mode="final", **fields):
    seen = []
    job = make_job(SIXTEEN, on_step=seen.append, **fields)
    _, report = run(job, mode)
    return seen, report


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tile_batch", [1, 4, 8])
@pytest.mark.parametrize("interval", [1, 3, 4])
def test_equal_intervals_are_foreseen_exactly_from_the_first_turn(interval, tile_batch, mode):
    compute = torch.full((16,), 0.5)
    compute[7] = 0.0
    seen, report = watch(mode, dtss=equal(interval), tile_batch=tile_batch, compute=compute)
    assert {progress.expected_nfe for progress in seen} == {report.nfe} == {15 * (24 // interval)}
    assert [progress.nfe for progress in seen] == torch.tensor(report.calls).cumsum(0).tolist()


@pytest.mark.parametrize("mode", MODES)
def test_expectation_falls_when_tiles_stop_early_and_ends_at_the_truth(mode):
    seen, report = watch(mode, dtss=SCRIPTED, estimator=stories("GGGX", "GGGG" * 6))
    assert seen[0].expected_nfe == 24 * 16
    assert seen[-1].expected_nfe == seen[-1].nfe == report.nfe == 8 * 5 + 8 * 24
    falls = [progress.expected_nfe for progress in seen]
    assert falls == sorted(falls, reverse=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tile_batch", [1, 4])
def test_progress_tells_every_evaluation_and_every_end_once(mode, tile_batch):
    compute = torch.full((16,), 0.5)
    compute[3] = 0.0
    story = stories("GGGX", "GGGG" * 6)
    seen, report = watch(mode, dtss=SCRIPTED, estimator=story, tile_batch=tile_batch, compute=compute)
    steps, finished = {}, []
    for progress in seen:
        assert not set(finished) & set(progress.tiles)
        for tile_id, step in zip(progress.tiles, progress.steps, strict=True):
            steps.setdefault(tile_id, []).append(step)
        finished += progress.finished
    assert steps == {tile_id: list(tile.steps) for tile_id, tile in enumerate(report.tiles) if tile.steps}
    assert sorted(finished) == sorted(steps)
