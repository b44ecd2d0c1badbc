"""Tiles that part ways: the evaluations of each, its best estimate, its gain, its mask, and who needs an estimator."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.tiles import crop_tiles
from tests.core.sampling.jobs import MODES, SIXTEEN, equal, make_job, run, stories
from tests.oracles import SCRIPTED, Counting, Scripted, write_script


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
