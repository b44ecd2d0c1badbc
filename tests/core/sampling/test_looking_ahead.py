"""Jumps that look ahead: they come nearer to all steps, the same by both merges, within one conditioning."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.sampling import bounded
from adadiffsr_core.sampling.rule import DtssConfig
from tests.core.sampling.jobs import MODES, Difficulties, draw, equal, make_job, run, visits_of

EVEN = (0, 4, 8, 12, 16, 20, 23)
# The same evaluations: by the paper's rule jumps hold the estimate, by the bounded one they look ahead.
HELD = DtssConfig(intervals=(4,) * 4, early_exit=False, visit_last=True)
AHEAD = DtssConfig(rule="bounded", budget=float(len(EVEN)))
NEAR = DtssConfig(rule="bounded", likeness=42.0)


@pytest.fixture
def even(monkeypatch):
    monkeypatch.setattr(bounded, "BASE_COURSES", ((0.0, EVEN),))
    bounded.courses.cache_clear()
    yield
    bounded.courses.cache_clear()


class Recording:
    """Estimates one picture above a noise level and another below it, and keeps what it was shown."""

    def __init__(self, pictures, turn):
        self.pictures, self.boundaries, self.seen = pictures, [turn], []

    def __call__(self, x, sigma, tiles, gain):
        self.seen.append(x.clone())
        return self.pictures[float(sigma[0]) > self.boundaries[0]].expand_as(x)


@pytest.mark.parametrize("prediction", ["v", "flow"])
@pytest.mark.parametrize("solver", ["ddim", "euler"])
def test_both_merges_agree_on_one_tile(prediction, solver):
    """Estimates go on between evaluations, whether one tile jumps or the canvas goes step by step."""
    job = make_job(solver=solver, prediction=prediction, dtss=NEAR, estimator=Difficulties([-4.5]))
    (first, report), (second, other) = (run(job, mode) for mode in MODES)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert visits_of(report) == visits_of(other)
    assert 3 < report.nfe < 24


@pytest.mark.parametrize("mode", MODES)
def test_jumps_look_ahead_and_come_nearer(mode, even):
    """The same evaluations by the paper's rule, whose jumps hold the estimate."""
    known = Difficulties([-4.5])
    whole, plain, ahead = (run(make_job(dtss=dtss, estimator=known), mode) for dtss in (equal(1), HELD, AHEAD))
    assert visits_of(plain[1]) == visits_of(ahead[1]) == [list(EVEN)]
    plain_error, error = ((estimates - whole[0]).square().mean() for estimates, _ in (plain, ahead))
    assert error < plain_error / 4


@pytest.mark.parametrize("mode", MODES)
def test_what_conditioning_changes_is_not_taken_for_what_the_steps_do(mode, even):
    """Where two pictures are each estimated to the end of their conditioning, jumps that look ahead are held ones."""
    job = make_job(estimator=Difficulties([-4.5]))
    turn = float(job.codebook.sigmas[11:13].mean())  # so that the first base step beyond it is one of these
    denoiser = Recording({True: draw(1, 4, 8, 8, seed=3), False: draw(1, 4, 8, 8, seed=4)}, turn)
    for dtss in (AHEAD, HELD):
        run(replace(job, denoiser=denoiser, dtss=dtss), mode)
    ahead, held = denoiser.seen[: len(EVEN)], denoiser.seen[len(EVEN) :]
    torch.testing.assert_close(torch.cat(ahead), torch.cat(held))
