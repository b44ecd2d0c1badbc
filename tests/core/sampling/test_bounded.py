"""The bounded rule: the shortest course that is near enough, to the last base step, and true to its budget."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.sampling.bounded import MARGIN_DB, choose_course, courses, deviation_of, likeness_db, uneven_db
from adadiffsr_core.sampling.config import RegionConfig
from adadiffsr_core.sampling.controller import decide, evaluations_left, start_states
from adadiffsr_core.sampling.rule import ALL_STEPS_DB, DtssConfig, TileClass
from tests.core.sampling.jobs import SIXTEEN, Difficulties, equal, make_job, run, visits_of
from tests.oracles import Scripted, write_script

STEPS = 24
LAST = STEPS - 1
BOUNDED = DtssConfig(rule="bounded", likeness=44.0 - MARGIN_DB, early_exit=False)


def whole(values):
    return torch.tensor(values, dtype=torch.long)


def places_of(course, steps):
    """Base indices that a tile is at which stays on a course."""
    index, places = 0, []
    while index < steps:
        places.append(index)
        index = int(courses(steps).following[course, index])
    return places


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 24, 60, 1000])
def test_every_course_goes_from_the_first_base_step_to_the_last(steps):
    found = courses(steps)
    ways = [places_of(course, steps) for course in range(len(found.deviation))]
    assert all(way[0] == 0 and way[-1] == steps - 1 for way in ways)
    assert ways[-1] == list(range(steps))
    assert len({tuple(way) for way in ways}) == len(ways)
    for remaining, way in zip(found.remaining.tolist(), ways, strict=True):
        assert remaining == [sum(place > index for place in way) for index in range(steps)]


@pytest.mark.parametrize("steps", [2, *range(4, 26), 60, 1000])
def test_a_course_with_more_evaluations_comes_nearer(steps):
    found = courses(steps)
    assert (found.remaining[:, 0].diff() >= 0).all()
    assert (found.deviation.diff() <= 0).all()
    assert found.deviation[-1] == 0
    assert likeness_db(torch.tensor([-4.5]), found.deviation[-1:]).isinf()


@pytest.mark.parametrize("steps", [25, 30, 60, 200, 1000])
def test_of_finer_steps_a_course_strays_further_and_none_is_much_longer_than_the_one_before(steps):
    finer, counts = courses(steps), (courses(steps).remaining[:, 0] + 1).tolist()
    once = courses(STEPS).deviation[:-1]
    assert (finer.deviation[: len(once)] >= once).all()
    assert all(after <= 1.5 * before or after <= 4 for before, after in pairwise(counts))


def test_the_courses_of_twice_as_many_steps_are_at_the_same_noise():
    once, twice = (
        {tuple(round(place / (steps - 1), 1) for place in places_of(course, steps)) for course in range(5)}
        for steps in (24, 47)
    )
    assert once == twice


@given(difficulty=st.floats(-9, -1), likeness=st.floats(10, 80), steps=st.sampled_from([1, 2, 5, STEPS, 60]))
def test_no_tile_takes_a_longer_course_than_it_must_nor_a_shorter(difficulty, likeness, steps):
    guess = torch.tensor([difficulty])
    found, start = courses(steps), whole([0])
    near = [float(value) >= likeness for value in likeness_db(guess, found.deviation)]
    assert int(choose_course(guess, torch.tensor([likeness]), start, start, found)) == near.index(True)


@given(
    difficulties=st.lists(st.floats(-9, -1), min_size=LAST, max_size=LAST),
    dial=st.floats(10, 80),
    steps=st.sampled_from([5, STEPS, 48]),
    borders=st.sets(st.integers(1, 4), max_size=2),
)
def test_whatever_turns_up_a_tile_s_way_is_a_course_and_is_rated_as_it(difficulties, dial, steps, borders):
    """What a mixture of two would come to nobody knows, but that it is less than either (decision D92)."""
    found, index, course, way = courses(steps, tuple(sorted(borders))), whole([0]), whole([0]), []
    for difficulty in [*difficulties, *[-1.0] * steps]:
        way.append(int(index))
        course = choose_course(torch.tensor([difficulty]), torch.tensor([dial]), index, course, found)
        if int(index := found.following[course, index]) >= steps:
            break
    mine = [place for place in range(steps) if place == 0 or place in found.following[course[0]].tolist()]
    assert way == mine
    assert borders <= set(way)


@given(index=st.integers(0, LAST), difficulty=st.floats(-9, -1))
def test_what_is_left_never_costs_less_for_a_higher_likeness(index, difficulty):
    """Or the likeness that spends a budget would be looked for in the wrong half."""
    found = courses(STEPS)
    for course in range(len(found.deviation)):
        state = {"index": whole([index]), "difficulty": torch.tensor([difficulty]), "course": whole([course])}
        states = replace(start_states(1, BOUNDED), **state)
        dials = (torch.tensor([likeness / 2]) for likeness in range(20, 180))
        left = [int(evaluations_left(states, BOUNDED, found, dial)) for dial in dials]
        assert left == sorted(left)


def test_as_near_as_the_course_of_as_many_evaluations():
    found = courses(STEPS)
    fewest, most = (int(found.remaining[course, 0]) + 1 for course in (0, -1))
    values = deviation_of(torch.tensor([1, fewest, most - 1, most]), STEPS)
    assert torch.equal(values, found.deviation[[0, 0, -2, -1]])


@pytest.mark.parametrize("mode", ["final", "every_step"])
def test_hard_tiles_take_more_and_all_end_on_the_last_step(mode):
    job = make_job(SIXTEEN, dtss=BOUNDED, estimator=Difficulties([-7.0] * 8 + [-3.0] * 7 + [9.0]))
    _, report = run(job, mode)
    easy, hard, hopeless = (visits_of(report)[tile] for tile in (0, 8, 15))
    assert easy == [0, 23] or len(easy) < len(hard)
    assert len(easy) < len(hard) < STEPS
    assert hopeless == list(range(STEPS))
    assert all(visits[-1] == LAST for visits in visits_of(report))
    assert report.likeness == BOUNDED.likeness
    assert [tile.likeness >= BOUNDED.likeness for tile in report.tiles[:15]] == [True] * 15
    assert report.tiles[15].likeness == float("inf")


@pytest.mark.parametrize("mode", ["final", "every_step"])
@pytest.mark.parametrize("solver", ["ddpm", "euler_ancestral"])
def test_with_a_solver_that_draws_noise_nothing_is_promised(solver, mode):
    """Fewer steps draw other noise, and so make another picture."""
    report = run(make_job(SIXTEEN, solver=solver, dtss=BOUNDED, estimator=Difficulties([-4.5] * 16)), mode)[1]
    assert (report.likeness, {tile.likeness for tile in report.tiles}) == (None, {None})
    assert "likeness is not promised" in report.note
    every = run(make_job(solver=solver, dtss=replace(BOUNDED, likeness=100.0), estimator=Difficulties([-4.5])))[1]
    by_classes = run(make_job(solver=solver, dtss=equal(2)))[1]
    assert (every.nfe, every.note, by_classes.note) == (STEPS, "", "")


@pytest.mark.parametrize("dial", [{"likeness": 40.0}, {"likeness": 100.0}, {"budget": 6.0}], ids=str)
def test_with_uneven_timesteps_a_promise_takes_more_and_a_budget_promises_less(dial):
    """Courses were measured with even ones."""
    job = make_job(dtss=replace(BOUNDED, **dial), estimator=Difficulties([-4.5]))
    even, uneven = (run(replace(job, timesteps=1000 * torch.linspace(1, 0, STEPS) ** power))[1] for power in (1, 3))
    tile, other = even.tiles[0].likeness, uneven.tiles[0].likeness
    if "budget" in dial:
        assert (uneven.nfe, other < tile, uneven.likeness < even.likeness) == (even.nfe, True, True)
    else:
        assert uneven.likeness == even.likeness == dial["likeness"]
        assert uneven.nfe > even.nfe or even.nfe == STEPS
        assert other >= dial["likeness"]


def test_unevenness_is_how_far_base_steps_are_from_even_ones():
    for timesteps in (torch.linspace(999, 41, STEPS), torch.tensor([999.0, 3.0]), torch.tensor([0.7])):
        assert uneven_db(timesteps) == 0
    assert uneven_db(torch.tensor([1000.0, 250.0, 0.0])) > uneven_db(torch.tensor([1000.0, 350.0, 0.0])) > 1


def test_scripted_difficulties_give_these_steps():
    """By hand: at 44 dB and -4.5 a deviation of 10^0.1 is allowed: four evaluations have 10^-0.13, three 10^0.41."""
    job = make_job(dtss=BOUNDED, estimator=Difficulties([-4.5]))
    assert visits_of(run(job)[1]) == [[0, 6, 14, 23]]
    job = make_job(dtss=replace(BOUNDED, likeness=10.0), estimator=Difficulties([-4.5]))
    assert visits_of(run(job)[1]) == [[0, 23]]


def test_a_tile_that_turns_out_easier_or_harder_goes_on_by_another_course():
    """By hand: at 44 dB and -4.5 four evaluations are enough, and at 14 they may become five, at 6 six.

    Of the courses that begin with 0 and 6 these are the shortest and the longest: after a jump of six nothing comes as
    near as a tile of no difficulty at all, or of every, would be wanted (decision D92).
    """
    at_six = decide(start_states(1, BOUNDED), torch.tensor([[0.5, 0.5, -4.5]]), BOUNDED, STEPS).states
    assert int(at_six.index) == 6
    at_fourteen = decide(at_six, torch.tensor([[0.5, 0.5, -4.5]]), BOUNDED, STEPS).states
    assert int(at_fourteen.index) == 14
    for states, ways in ((at_six, {-4.5: 14, -20.0: 14, 0.0: 11}), (at_fourteen, {-4.5: 23, -20.0: 23, -4.0: 19})):
        for difficulty, ahead in ways.items():
            decision = decide(states, torch.tensor([[0.5, 0.5, difficulty]]), BOUNDED, STEPS)
            assert int(decision.states.index) == ahead


def test_a_tile_that_turns_out_harder_shortens_its_jumps_and_is_called_growing():
    states = start_states(1, BOUNDED)
    quality = torch.tensor([[0.5, 0.5, -4.5]])
    first = decide(states, quality, BOUNDED, STEPS)
    second = decide(first.states, quality + torch.tensor([0, 0, 1.0]), BOUNDED, STEPS)
    assert second.states.interval < first.states.interval
    assert (int(first.classes), int(second.classes)) == (TileClass.STABLE, TileClass.GROWING)


@pytest.mark.parametrize("mode", ["final", "every_step"])
@pytest.mark.parametrize(
    ("levels", "promised"), [([0.25], 36.0), ([0.25, 0.5], 36.0), ([0.75], 48.0), ([0.0, 1.0], 100.0)]
)
def test_what_is_promised_is_what_the_mask_leaves_of_it(mode, levels, promised):
    """The lowest of any tile that is not given every step; untouched ones are promised nothing."""
    compute = torch.tensor((levels * 16)[:16])
    job = make_job(SIXTEEN, dtss=BOUNDED, estimator=Difficulties([-4.5] * 16), compute=compute)
    report = run(job, mode)[1]
    assert report.likeness == pytest.approx(promised)
    assert all(tile.likeness >= promised for tile in report.tiles if tile.steps)


def test_the_mask_moves_the_likeness_and_white_is_every_step():
    job = make_job(SIXTEEN, dtss=BOUNDED, estimator=Difficulties([-4.5] * 16))
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0] + [0.5] * 11)
    counts = [tile.nfe for tile in run(replace(job, compute=levels))[1].tiles]
    assert counts[0] == 0
    assert counts[1] < counts[2] < counts[3] < counts[4] == STEPS


def test_the_highest_likeness_is_every_step_however_easy_a_tile_is():
    job = make_job(dtss=replace(BOUNDED, likeness=ALL_STEPS_DB), estimator=Difficulties([-20.0]))
    assert visits_of(run(job)[1]) == [list(range(STEPS))]


def test_every_step_tells_injection_of_gain_where_the_run_does():
    everyday = RegionConfig()
    assert everyday.every_step().dtss.likeness == ALL_STEPS_DB
    assert everyday.uniform(3).every_step() == everyday.uniform(1)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_few_steps_are_all_taken_where_the_likeness_is_high(steps):
    job = make_job(steps=steps, dtss=replace(BOUNDED, likeness=60.0), estimator=Difficulties([-4.5]))
    assert visits_of(run(job)[1]) == [list(range(steps))]


@pytest.mark.parametrize("mode", ["final", "every_step"])
def test_the_papers_ladder_may_be_made_to_visit_the_last_step(mode):
    ladder = DtssConfig(intervals=(5,) * 4, early_exit=False, visit_last=True)
    visits = visits_of(run(make_job(dtss=ladder), mode)[1])[0]
    assert visits == [0, 5, 10, 15, 20, 23]
    assert all(later - earlier <= 5 for earlier, later in pairwise(visits))
    assert visits_of(run(make_job(dtss=replace(ladder, visit_last=False)), mode)[1]) == [[0, 5, 10, 15, 20]]


def test_without_an_estimator_the_bounded_rule_is_refused_as_any_other():
    with pytest.raises(ConfigError, match="gain estimator"):
        run(make_job(dtss=BOUNDED, estimator=None))


def test_an_estimator_that_knows_no_difficulty_leaves_all_tiles_alike():
    job = make_job(SIXTEEN, dtss=BOUNDED, estimator=Scripted([write_script("SGS")] * 16))
    assert len({tuple(visits) for visits in visits_of(run(job)[1])}) == 1
