"""Scales outside what a model was trained for are worked at one that it knows, and said in a sentence."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.photo.limits import MAX_PIXELS
from adadiffsr_core.photo.scales import Scales, base_size, plan_work, target_size

SIDE = st.integers(1, 3000)
SIZE = st.tuples(SIDE, SIDE)


@pytest.mark.parametrize(
    ("source", "size", "work"),
    [
        ((100, 60), (400, 240), (400, 240)),
        ((100, 60), (300, 180), (300, 180)),
        ((100, 60), (800, 480), (800, 480)),
        ((100, 60), (100, 60), (400, 240)),
        ((100, 60), (200, 120), (400, 240)),
        ((100, 60), (299, 179), (400, 240)),
        ((101, 61), (303, 183), (303, 183)),
        ((1001, 999), (3000, 2994), (4004, 3996)),
        ((100, 60), (50, 30), (200, 120)),  # the result's size is all that there is room for
        ((100, 100), (400, 100), (400, 400)),  # one axis is strange: both are worked alike
        ((100, 100), (600, 100), (600, 400)),
        ((100, 100), (50, 350), (200, 400)),
        ((1, 1), (1, 1), (4, 4)),
        ((2, 2), (40, 40), (40, 40)),
    ],
)
def test_what_is_below_the_model_is_worked_at_four_times(source, size, work):
    found = plan_work(source, size, Scales())
    assert found.size == work
    is_known = all(3 * a <= b + 0.5 and b <= 8 * a for a, b in zip(source, size, strict=True))
    assert bool(found.note) == (not is_known)


@given(source=SIZE, size=SIZE)
def test_no_side_is_worked_smaller_than_the_result_nor_far_beyond_it(source, size):
    work = plan_work(source, size, Scales()).size
    base = base_size(source, size)
    for before, after, worked in zip(base, size, work, strict=True):
        assert after <= worked <= max(after, 4 * before)
    assert math.prod(work) <= max(MAX_PIXELS, math.prod(size))


def test_large_pictures_are_worked_at_what_fits():
    work = plan_work((6000, 8000), (6000, 8000), Scales())
    assert 0.999 * MAX_PIXELS < math.prod(work.size) <= MAX_PIXELS
    assert work.size[0] / 6000 == pytest.approx(work.size[1] / 8000, rel=1e-3)
    assert f"{work.size[1]} x {work.size[0]} px" in work.note


@pytest.mark.parametrize(
    ("scales", "size", "work"),
    [
        (Scales(1, 4), (10, 10), (10, 10)),
        (Scales(1, 4), (5, 5), (20, 20)),
        (Scales(2, 2), (10, 10), (20, 20)),
        (Scales(6, 8), (10, 10), (60, 60)),
    ],
)
def test_a_model_is_taken_at_its_word(scales, size, work):
    assert plan_work((10, 10), size, scales).size == work


def test_notes_say_what_was_asked_known_and_done():
    assert plan_work((100, 60), (200, 120), Scales()).note == (
        "2 times larger is outside the 3 to 8 that this model was trained for; worked at 240 x 400 px and reduced"
    )
    assert plan_work((100, 100), (100, 200), Scales()).note.startswith("2 x 1 times larger")
    assert plan_work((10, 10), (160, 160), Scales()).note == (
        "16 times larger is outside the 3 to 8 that this model was trained for; expect less of the result"
    )


@pytest.mark.parametrize("ends", [(0, 4), (4, 3), (1, math.inf), (math.nan, 4), (1, math.nan), (-1, 4)])
def test_what_is_no_range_is_refused(ends):
    with pytest.raises(ConfigError, match="scales go from"):
        Scales(*ends)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_a_scale_is_a_number(scale):
    with pytest.raises(ConfigError, match="a number of times larger, such as 4, got"):
        target_size((10, 10), scale)
