"""What a run tells on its way and where it ends before its time: progress, NaN, a cancel."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.errors import DenoiserError
from adadiffsr_core.sampling.schedule import Schedule
from tests.core.sampling.jobs import MODES, SIXTEEN, equal, make_job, run, stories
from tests.oracles import (
    SCRIPTED,
    Counting,
)

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
