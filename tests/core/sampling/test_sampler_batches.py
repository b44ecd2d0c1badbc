"""Many tiles, whatever batches they share: who is in one, how full it is, and that it changes nothing."""

import random
from dataclasses import replace

import pytest
import torch

from adadiffsr_core.sampling.merge import TileMerger
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.sampling.tilewise import sample_tiles
from adadiffsr_core.sampling.turn import Turns
from tests.core.sampling.jobs import MODES, SIXTEEN, equal, make_job, run, stories
from tests.oracles import (
    REFERENCES,
    SCRIPTED,
    Counting,
    Mixture,
    PointMass,
)


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

    def rate(self, batch, inner=Turns.rate):
        under_way.remove(list(batch.ids))
        return inner(self, batch)

    monkeypatch.setattr(Turns, "launch", launch)
    monkeypatch.setattr(Turns, "rate", rate)
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
