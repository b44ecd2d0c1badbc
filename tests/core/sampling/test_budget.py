"""A budget is a picture's, whatever shares its calls; and a conditioning that changes is looked at on both sides."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.sampling.bounded import MARGIN_DB, courses
from adadiffsr_core.sampling.controller import decide, find_likeness, start_states
from adadiffsr_core.sampling.report import join_reports
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.timelines import Timelines
from tests.core.sampling.jobs import MODES, SIXTEEN, Difficulties, make_job, run, visits_of
from tests.oracles import Counting

STEPS = 24
LAST = STEPS - 1
BUDGET = DtssConfig(rule="bounded", budget=6.5, early_exit=False)
BOUNDED = replace(BUDGET, budget=0.0, likeness=44.0 - MARGIN_DB)
SPREAD = torch.linspace(-6, -3, 16)[torch.randperm(16, generator=torch.Generator().manual_seed(0))].tolist()


@pytest.mark.parametrize("budget", [2, 4, 7, 9, 10, 11, 13, 16])
def test_a_budget_keeps_jumps_alike(budget):
    """A tile by itself, of which nothing changes: but for the first, no jump is more than about twice its neighbour."""
    job = make_job(dtss=replace(BOUNDED, budget=float(budget)), estimator=Difficulties([-4.5]))
    visits = visits_of(run(job)[1])[0]
    jumps = [after - before for before, after in pairwise(visits)][1:]
    assert len(visits) == budget
    assert all(max(a, b) <= 2 * min(a, b) + 1 for a, b in pairwise(jumps))


@pytest.mark.parametrize("mode", ["final", "every_step"])
@pytest.mark.parametrize("budget", [4.0, 6.5, 11.0])
def test_the_budget_is_met(mode, budget):
    values = torch.linspace(-6, -3, 16)[torch.randperm(16, generator=torch.Generator().manual_seed(0))].tolist()
    job = make_job(SIXTEEN, dtss=replace(BOUNDED, budget=budget), estimator=Difficulties(values))
    _, report = run(job, mode)
    assert report.mean_nfe == pytest.approx(budget, rel=0.05)
    assert not report.note
    spent = [tile.nfe for tile in report.tiles]
    easiest, hardest = (spent[values.index(end(values))] for end in (min, max))
    assert easiest < hardest
    assert (
        0 < report.likeness <= min(tile.likeness for tile in report.tiles)
    )  # what is promised is kept, as it is thought


@pytest.mark.parametrize("mode", ["final", "every_step"])
def test_a_budget_that_cannot_be_kept_is_told(mode):
    report = run(make_job(SIXTEEN, dtss=replace(BOUNDED, budget=1.0), estimator=Difficulties([-4.0] * 16)), mode)[1]
    assert (report.mean_nfe, report.to_dict()["note"]) == (2.0, report.note)
    assert report.note.startswith("a budget of 1 evaluations per tile was asked for and 2.0 were spent")


@given(count=st.integers(1, 20), budget=st.floats(1, 24), seed=st.integers(0, 99))
def test_no_more_is_planned_than_the_budget(count, budget, seed):
    generator = torch.Generator().manual_seed(seed)
    config = replace(BOUNDED, budget=budget)
    states = replace(start_states(count, config), difficulty=-6 + 3 * torch.rand(count, generator=generator))
    likeness = find_likeness(states, config, courses(STEPS))
    planned = decide_all(states, replace(config, likeness=likeness))
    assert planned <= max(budget, 2) + 1e-6


def decide_all(states, config):
    """Evaluations per tile of a run whose difficulties stay what they are."""
    quality = torch.cat([torch.full((len(states.index), 2), 0.5), states.difficulty[:, None]], dim=1)
    running = torch.ones(len(states.index), dtype=torch.bool)
    spent = 0
    while running.any():
        spent += int(running.sum())
        decision = decide(states, quality, config, STEPS)
        states, running = decision.states, running & ~decision.is_final
        states = replace(states, index=states.index.clamp_max(LAST))
    return spent / len(quality)


class Wavering(Difficulties):
    """Guesses otherwise at every noise level."""

    def quality(self, denoised, lq_latent, sigma):
        quality = super().quality(denoised, lq_latent, sigma)
        quality[:, 2] += torch.sin(50 * sigma.flatten() + quality[:, 2] * 9)
        return quality


class Turning(Difficulties):
    """Guesses more after the first evaluation."""

    def __init__(self, values, more):
        super().__init__(values)
        self.more, self.calls = more, 0

    def quality(self, denoised, lq_latent, sigma):
        quality = super().quality(denoised, lq_latent, sigma)
        quality[:, 2] += self.more * bool(self.calls)
        self.calls += 1
        return quality


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("estimator", [Difficulties(SPREAD), Wavering(SPREAD)], ids=["sure", "wavering"])
@pytest.mark.parametrize("ahead", [1, 2])
def test_the_same_is_spent_on_each_tile_whatever_the_tile_batch(mode, estimator, ahead):
    def visits(tile_batch):
        job = make_job(SIXTEEN, dtss=BUDGET, estimator=estimator, tile_batch=tile_batch)
        done = []
        return visits_of(MODES[mode](job, lambda ids, tiles: done.extend(ids), ahead))

    first, *others = (visits(tile_batch) for tile_batch in (1, 3, 8, 30))
    assert len({tuple(row) for row in first}) > 2
    assert others == [first] * 3


@pytest.mark.parametrize("mode", MODES)
def test_each_picture_of_a_batch_has_the_budget_for_itself(mode):
    plain, busy = [value - 1.5 for value in SPREAD], [value + 1.5 for value in SPREAD]
    both = make_job(SIXTEEN, images=2, dtss=BUDGET, estimator=Difficulties(plain + busy))
    visits = visits_of(run(both, mode)[1])
    for image in (visits[:16], visits[16:]):
        assert sum(map(len, image)) / 16 == pytest.approx(BUDGET.budget, rel=0.05)
    alone = make_job(SIXTEEN, dtss=BUDGET, estimator=Difficulties(plain))
    assert visits_of(run(alone, mode)[1]) == visits[:16]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tile_batch", [2, 8])
def test_what_the_mask_gives_every_step_is_taken_off_the_budget_and_the_rest_is_shared(mode, tile_batch):
    """Nine of sixteen tiles are white: of 16 evaluations per tile 5.7 are left for each of the others."""
    compute = torch.tensor([1.0] * 9 + [0.5] * 7)
    dtss = replace(BUDGET, budget=16.0)
    job = make_job(SIXTEEN, dtss=dtss, estimator=Difficulties([-4.5] * 16), compute=compute, tile_batch=tile_batch)
    report = run(job, mode)[1]
    counts = [tile.nfe for tile in report.tiles]
    assert counts[:9] == [STEPS] * 9
    assert set(counts[9:]) == {5}
    assert 30 < report.likeness <= min(tile.likeness for tile in report.tiles[9:]) - MARGIN_DB + 1e-6


@pytest.mark.parametrize("mode", MODES)
def test_where_a_mask_leaves_nothing_the_others_are_promised_what_they_come_to(mode):
    compute = torch.tensor([1.0] * 9 + [0.5] * 7)
    job = make_job(SIXTEEN, dtss=replace(BUDGET, budget=4.0), estimator=Difficulties([-4.5] * 16), compute=compute)
    report = run(job, mode)[1]
    assert [tile.nfe for tile in report.tiles[9:]] == [2] * 7
    thought = report.tiles[9].likeness
    assert report.likeness == pytest.approx(thought - MARGIN_DB, abs=0.02)
    assert "were spent" in report.note


@pytest.mark.parametrize("mode", MODES)
def test_no_more_is_promised_than_a_tile_is_thought_to_have(mode):
    """A tile that turns out hopeless after its first jump can no more become what was wished for."""
    job = make_job(dtss=replace(BUDGET, budget=0.0, likeness=42.0), estimator=Turning([-4.5], 1.5))
    report = run(job, mode)[1]
    assert report.nfe < STEPS
    assert report.likeness == report.tiles[0].likeness < 42


def test_a_grey_mask_takes_nothing_from_every_step():
    for dial in ({"budget": 24.0}, {"budget": 0.0, "likeness": 100.0}):
        levels = torch.tensor([0.25] * 16)
        job = make_job(SIXTEEN, dtss=replace(BUDGET, **dial), estimator=Difficulties(SPREAD), compute=levels)
        report = run(job)[1]
        assert (report.mean_nfe, report.likeness) == (STEPS, 100.0)


def test_of_waiting_tiles_a_window_competes_for_the_next_batch(monkeypatch):
    """Or each turn of a picture of thousands would look at all of them."""
    compared, choose = [], Timelines.choose

    def spy(self, ids, size):
        compared.append(len(ids))
        return choose(self, ids, size)

    monkeypatch.setattr(Timelines, "choose", spy)
    run(make_job(SIXTEEN, dtss=BUDGET, estimator=Difficulties(SPREAD), tile_batch=1))
    assert max(compared) == 4


@pytest.mark.parametrize("black_first", [False, True])
def test_a_part_that_is_black_keeps_no_note_from_the_others(black_first):
    """Of a picture in bands, whose first may have nothing to do."""
    for fields in ({"solver": "ddpm"}, {"compute": torch.ones(16)}):
        job = make_job(SIXTEEN, dtss=replace(BUDGET, budget=4.0), estimator=Difficulties(SPREAD), **fields)
        black, other = run(replace(job, compute=torch.zeros(16)))[1], run(job)[1]
        joined = join_reports([black, other] if black_first else [other, black])
        assert other.note
        assert joined.note[:30] == other.note[:30]
        assert joined.budget == 4


def test_a_budget_for_every_step_promises_as_much_as_the_highest_likeness():
    for dial in ({"budget": 24.0}, {"budget": 90.0}, {"budget": 0.0, "likeness": 100.0}):
        report = run(make_job(dtss=replace(BUDGET, **dial), estimator=Difficulties([-4.5])))[1]
        assert (report.nfe, report.likeness) == (STEPS, 100.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dial", [{"budget": 0.0}, {"budget": 6.0}], ids=str)
def test_every_side_of_a_boundary_is_evaluated_and_nothing_is_promised(mode, dial):
    """What holds from 0.75 to 0.93 lies between two evaluations of the usual course, and had no say at all."""
    job = make_job(SIXTEEN, dtss=replace(BUDGET, **dial), estimator=Difficulties(SPREAD))
    sigmas = job.codebook.sigmas.tolist()
    edges = [(sigmas[17] + sigmas[18]) / 2, (sigmas[21] + sigmas[22]) / 2]
    report = run(replace(job, denoiser=Counting(job.denoiser.inner, edges)), mode)[1]
    for visits in visits_of(report):
        assert {18, 22} <= set(visits)
    assert report.likeness is None
    assert "the conditioning changes on the way" in report.note
    if dial["budget"]:
        assert report.mean_nfe == pytest.approx(6, rel=0.05)
    outside = [2 * sigmas[0], sigmas[-2] / 2]
    same = run(replace(job, denoiser=Counting(job.denoiser.inner, outside)), mode)[1]
    assert same.likeness is not None
    assert visits_of(same) == visits_of(run(job, mode)[1])


@pytest.mark.parametrize("mode", MODES)
def test_while_all_tiles_are_evaluated_once_progress_is_told_and_may_end_the_run(mode):
    told = []
    job = make_job(SIXTEEN, dtss=BUDGET, estimator=Difficulties(SPREAD), tile_batch=4)
    report = run(replace(job, on_step=told.append), mode)[1]
    spent = [progress.nfe for progress in told]
    assert spent[:4] == [4, 8, 12, 16]
    assert spent == sorted(spent)
    assert spent[-1] == told[-1].expected_nfe == report.nfe
    assert all(abs(progress.expected_nfe - report.nfe) < 0.3 * report.nfe for progress in told)
    told.clear()
    white = torch.tensor([1.0] * 12 + [0.5] * 4)
    report = run(replace(job, dtss=replace(BUDGET, budget=4.0), compute=white, on_step=told.append), mode)[1]
    assert all(abs(progress.expected_nfe - report.nfe) < 0.1 * report.nfe for progress in told)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(replace(job, on_step=stop), mode)
