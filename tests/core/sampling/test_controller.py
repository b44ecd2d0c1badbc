"""DTSS: the rule by hand, scripted tiles with exact step counts, and a second, scalar implementation."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from adadiffsr_core.sampling.controller import classify_tiles, decide, next_rung, start_states
from adadiffsr_core.sampling.rule import DtssConfig, TileClass
from tests.oracles import SCRIPTED, write_script

GROWING, STABLE, SATURATED = TileClass


def run(story, config=SCRIPTED, steps=24, compute=None):
    """One tile through the controller; base indices of its evaluations, and its classes."""
    states = start_states(1, config, None if compute is None else torch.tensor([compute]))
    script = write_script(story + story[-1:] * steps)
    indices, classes = [], []
    for quality in script:
        indices.append(int(states.index))
        states, tile_class, _, is_final = decide(states, torch.tensor([quality]), config, steps)
        classes.append(TileClass(int(tile_class)))
        if bool(is_final):
            return indices, classes
    raise AssertionError("never finished")


@pytest.mark.parametrize(
    ("fr", "nr", "expected"),
    [
        (0.1, 0.1, GROWING),
        (0.1, 0.0, STABLE),
        (0.0, 0.1, STABLE),
        (-0.1, 0.1, GROWING),  # FR counts by its size (decision D16)
        (-0.005, 0.1, STABLE),
        (0.1, -0.1, SATURATED),
        (-0.1, -0.1, SATURATED),
        (0.1, -0.004, STABLE),
        (0.005, 0.1, STABLE),  # must exceed the threshold
        (0.1, -0.005, STABLE),
        (0.0051, 0.0051, GROWING),
        (0.0, -0.0051, SATURATED),
    ],
)
def test_classes_follow_the_two_gains(fr, nr, expected):
    assert classify_tiles(torch.tensor([[fr, nr]]), 5e-3).tolist() == [expected]


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_a_view_alone_does_not_see_the_other_gain(own, first, second):
    for views, place in (("fr", 0), ("nr", 1)):
        gains = torch.full((2, 2), own)
        gains[:, 1 - place] = torch.tensor([first, second])
        classes = classify_tiles(gains, 5e-3, views).tolist()
        assert classes[0] == classes[1]


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_a_tile_grows_by_both_views_where_it_grows_by_each(fr, nr):
    gain = torch.tensor([[fr, nr]])
    alone = [int(classify_tiles(gain, 5e-3, views)) == TileClass.GROWING for views in ("fr", "nr")]
    assert (int(classify_tiles(gain, 5e-3)) == TileClass.GROWING) == all(alone)


@pytest.mark.parametrize(
    ("story", "indices"),
    [
        ("S", [0, 12, 16, 20]),
        ("G", [0, 12, 15, 17, *range(18, 24)]),
        ("SGGGGS", [0, 12, 16, 19, 21, 22, 23]),
    ],
)
def test_a_first_jump_is_taken_before_anything_is_known(story, indices):
    config = replace(SCRIPTED, gain_threshold=1e-3, first_jump=0.5)  # gains over half the steps are small
    assert run(story, config)[0] == indices


def test_a_first_jump_spares_tiles_that_are_to_take_every_step():
    config = replace(SCRIPTED, first_jump=0.5, early_exit=False)
    assert run("S", config, compute=1.0)[0] == list(range(24))
    assert run("S", config, compute=0.75)[0] == [0, 12, 15, 18, 21]


def test_likeness_alone_never_stops_a_tile():
    gains = torch.tensor([[fr, nr] for fr in (-1.0, 0.0, 1.0) for nr in (-1.0, 0.0, 1.0)])
    assert TileClass.SATURATED not in classify_tiles(gains, 5e-3, "fr").tolist()
    assert classify_tiles(gains, 5e-3, "nr").tolist() == [TileClass.SATURATED, TileClass.STABLE, TileClass.GROWING] * 3


@pytest.mark.parametrize(
    ("story", "indices"),
    [
        ("S", [0, 1, 3, 6, 10, 14, 18, 22]),  # intervals 1, 2, 3, 4, 4, ...
        ("G", list(range(24))),
        ("SSG", [0, 1, 3, 6, 8, *range(9, 24)]),  # up two rungs, then down again
        ("SSSSX", [0, 1, 3, 6, 10, 14]),
        ("X", [0, 1]),
    ],
)
def test_scripted_tiles_take_these_steps(story, indices):
    assert run(story)[0] == indices


def test_the_first_evaluation_compares_with_nothing():
    states = start_states(1, SCRIPTED)
    for quality in ((0.0, 0.0), (1.0, 1.0)):
        decision = decide(states, torch.tensor([quality]), SCRIPTED, 24)
        assert decision.classes.tolist() == [STABLE]
        assert decision.states.gain.tolist() == [[0.0, 0.0]]
        assert (int(decision.states.index), int(decision.states.rung)) == (1, 0)


def test_no_reference_gain_counts_from_the_second_half_only():
    indices, classes = run("X", DtssConfig(), steps=20)
    assert indices[:4] == [0, 1, 3, 6]
    assert indices[-1] >= 10
    assert set(classes[:-1]) == {STABLE}
    assert classes[-1] == SATURATED
    indices, classes = run("G", DtssConfig(), steps=20)
    assert indices[:5] == [0, 1, 3, 6, 10]
    assert set(classes[:4]) == {STABLE}
    assert set(classes[5:]) == {GROWING}


def test_a_tile_that_may_not_stop_goes_on_with_small_steps():
    config = replace(SCRIPTED, early_exit=False)
    indices, classes = run("SSSX", config)
    assert indices == [0, 1, 3, 6, 10, 13, 15, *range(16, 24)]
    assert SATURATED not in classes


def test_a_long_jump_does_not_look_like_a_big_gain():
    rate = 0.004  # per twentieth of the denoising, below the threshold
    for interval in (1, 2, 3, 4):
        states = replace(start_states(1, SCRIPTED), visits=torch.tensor([1]), interval=torch.tensor([interval]))
        decision = decide(states, torch.full((1, 2), rate * interval * 20 / 24), SCRIPTED, 24)
        assert decision.classes.tolist() == [STABLE]
        assert decision.states.gain.tolist()[0] == pytest.approx([math.tanh(rate)] * 2)


def test_the_best_estimate_is_the_best_that_counted():
    config, best = DtssConfig(intervals=(1,), gain_threshold=1.0), []
    states = start_states(1, config)
    for nr in (0.9, 0.8, 0.3, 0.5, 0.4, 0.5, 0.6, 0.1):
        decision = decide(states, torch.tensor([[0.5, nr]]), config, 8)
        states = decision.states
        best.append(bool(decision.is_best))
    assert best == [False] * 4 + [True, True, True, False]
    assert float(states.best_nr) == pytest.approx(0.6)


@pytest.mark.parametrize("interval", [1, 2, 3, 4])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_without_an_estimator_equal_intervals_go_to_the_end(interval, steps):
    config = DtssConfig(intervals=(interval,) * 4, early_exit=False)
    assert config.is_uniform
    states, visited, is_final = start_states(1, config), [], False
    while not is_final:
        visited.append(int(states.index))
        states, _, _, final = decide(states, None, config, steps)
        is_final = bool(final)
    assert visited == list(range(0, steps, interval))
    assert int(states.index) == steps


@pytest.mark.parametrize(
    ("level", "story", "intervals"),
    [
        (0.5, "S", [1, 2, 3, 4, 4]),
        (1.0, "S", [1, 1, 1, 1, 1]),
        (1.0, "X", [1, 1, 1, 1, 1]),  # runs to the end
        (0.01, "S", [4, 4, 4, 4, 4]),
        (0.01, "G", [4, 4, 4, 4, 4]),
        (0.33, "G", [2, 2, 2, 2, 2]),
        (0.33, "S", [2, 3, 4, 4, 4]),
        (0.83, "S", [1, 2, 2, 2, 2]),
    ],
)
def test_the_compute_mask_takes_rungs_away(level, story, intervals):
    indices, _ = run(story, compute=level)
    assert [b - a for a, b in zip(indices[:5], indices[1:6], strict=True)] == intervals


def naive_decide(tile, quality, config, steps):
    """One tile, one number at a time."""
    gain = [0.0, 0.0]
    if tile["visits"]:
        share = 20 * max(tile["interval"] / steps, 1e-6)
        gain = [math.tanh((q - p) / share) for q, p in zip(quality, tile["quality"], strict=True)]
    if tile["index"] < config.nr_from * steps:
        gain[1] = 0.0
    if gain[1] < -config.gain_threshold:
        tile_class = SATURATED if tile["may_exit"] else GROWING
    else:
        tile_class = GROWING if min(abs(gain[0]), gain[1]) > config.gain_threshold else STABLE
    rung = tile["rung"]
    if tile["visits"] and tile_class != SATURATED:
        rung += 1 if tile_class == STABLE else -1
    rung = min(max(rung, tile["lowest_rung"]), tile["highest_rung"])
    interval = config.intervals[rung]
    if (
        not tile["visits"] and tile["highest_rung"] and len(set(config.intervals)) > 1
    ):  # of one interval none is adaptive
        interval = max(interval, round(config.first_jump * steps))
    target = min(tile["index"] + interval, steps)
    return tile_class, rung, target


STEPS = 12
TILE = st.fixed_dictionaries(
    {
        "index": st.integers(0, STEPS - 1),
        "interval": st.integers(0, 4),
        "rung": st.integers(0, 3),
        "visits": st.integers(0, 2),
        "lowest_rung": st.integers(0, 3),
        "may_exit": st.booleans(),
        "quality": st.tuples(st.floats(0, 1, width=16), st.floats(0, 1, width=16)),
    }
)
FRESH = {
    "index": 0, "interval": 0, "rung": 0, "visits": 0, "lowest_rung": 0, "may_exit": False, "quality": (0.0, 0.0)
}  # fmt: skip
SETTINGS = st.builds(
    DtssConfig,
    intervals=st.lists(st.integers(1, 5), min_size=4, max_size=4).map(sorted).map(tuple),
    gain_threshold=st.sampled_from([0.0, 1e-3, 1e-2]),
    nr_from=st.sampled_from([0.0, 0.5, 1.0]),
    first_jump=st.sampled_from([0.0, 0.5]),
)


@given(tiles=st.lists(TILE, min_size=1, max_size=6), config=SETTINGS, seed=st.integers(0, 2**16))
@example(tiles=[FRESH], config=DtssConfig(intervals=(1, 1, 1, 1), first_jump=0.5), seed=0)
def test_deciding_for_a_batch_is_deciding_tile_by_tile(tiles, config, seed):
    for tile in tiles:
        tile["highest_rung"] = 3
    columns = {name: torch.tensor([tile[name] for tile in tiles]) for name in tiles[0]}
    count = len(tiles)
    states = replace(start_states(count, config), **columns)
    quality = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    decision = decide(states, quality, config, STEPS)
    for place, tile in enumerate(tiles):
        tile_class, rung, target = naive_decide(tile, quality[place].tolist(), config, STEPS)
        is_saturated = tile_class == SATURATED
        assert int(decision.classes[place]) == tile_class
        assert int(decision.states.rung[place]) == rung
        assert int(decision.states.index[place]) == (tile["index"] if is_saturated else target)
        assert bool(decision.is_final[place]) == (is_saturated or target == STEPS)


def test_deciding_changes_no_state_in_place():
    states = start_states(3, SCRIPTED)
    before = {name: value.clone() for name, value in vars(states).items()}
    moved = decide(states.take(torch.tensor([2, 0])), torch.rand(2, 2), SCRIPTED, 24).states
    after = states.put(torch.tensor([2, 0]), moved)
    assert all(torch.equal(value, before[name]) for name, value in vars(states).items())
    assert after.index.tolist() == [1, 0, 1]
    assert after.visits.tolist() == [1, 0, 1]


def test_next_rung_stays_on_the_ladder():
    states = replace(start_states(2, SCRIPTED), visits=torch.ones(2, dtype=torch.long), rung=torch.tensor([0, 3]))
    assert next_rung(states, torch.tensor([GROWING, STABLE])).tolist() == [0, 3]
