"""Gain curves: axes by their rules, curves by hand, and pictures that hold what they should."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adadiffsr_core.drawing.axes import Axes, label_ticks, round_ticks, step_ticks, widen_range
from adadiffsr_core.drawing.gain_curves import (
    MARGIN_PX,
    PLOT_PX,
    TEXT_PX,
    Curve,
    collect_curves,
    draw_gain_curves,
    explain_no_gains,
    median_curve,
)
from adadiffsr_core.drawing.primitives import INK, PAPER, colour_bar, text_item
from adadiffsr_core.sampling.report import RunReport, StepRecord, TileReport
from adadiffsr_core.sampling.rule import TileClass

STEPS = 24
SIZE = (580, 1200, 3)


def make_tile(points, left=0):
    """A tile from its (index, FR gain, NR gain)."""
    steps = [StepRecord(index, 0.0, TileClass.STABLE, fr, nr, index + 1) for index, fr, nr in points]
    return TileReport(0, 0, left, 8, 8, steps)


def make_report(*tiles, steps=STEPS):
    return RunReport(steps, [make_tile(points, left=8 * n) for n, points in enumerate(tiles)], 8)


def rising(slope, start=0):
    return [(start, 0.0, 0.0)] + [(index, slope * index, -slope * index) for index in range(start + 1, STEPS, 2)]


def count(picture, item):
    """How often the middle row of a small picture is found in a larger one."""
    small = np.array(item)
    return picture.tobytes().count(small[len(small) // 2].tobytes())


def plots(picture):
    """The two plots, without what is written about them."""
    left, top = MARGIN_PX[:2]
    half = picture.shape[1] // 2
    return [picture[top : top + PLOT_PX[1], x + left : x + left + PLOT_PX[0]] for x in (0, half)]


gains = st.floats(-1, 1, allow_subnormal=False).filter(lambda gain: gain == 0 or abs(gain) > 1e-9)


@given(st.lists(gains))
def test_range_holds_the_values_and_zero_with_room(values):
    low, high = widen_range(values)
    assert low < min([0.0, *values])
    assert high > max([0.0, *values])


@given(low=st.floats(-10, 10), width=st.floats(1e-9, 1e4), most=st.integers(4, 12))
def test_ticks_are_few_round_and_inside(low, width, most):
    high = low + width
    assume(high - low > 1e-6 * abs(low))  # the plots always hold zero
    ticks = round_ticks(low, high, most)
    assert 1 <= len(ticks) <= most
    assert low - 1e-6 * width <= ticks[0] <= ticks[-1] <= high + 1e-6 * width
    if len(ticks) > 1:
        spacing = ticks[1] - ticks[0]
        mantissa = spacing / 10 ** math.floor(math.log10(spacing) + 1e-6)
        assert min(abs(mantissa - factor) for factor in (1, 2, 5)) < 1e-3


@given(st.integers(1, 1000))
def test_step_ticks_go_from_first_to_last(steps):
    ticks = step_ticks(steps)
    assert (ticks[0], ticks[-1]) == (0, steps)
    assert 2 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([-0.005, -0.0, 0.005], ["-0.005", "0", "0.005"]),
        ([-1.0, 0.0, 1.0, 2.0], ["-1", "0", "1", "2"]),
        ([0.0, 0.02, 0.04], ["0", "0.02", "0.04"]),
        ([0.0, 5e-8, 1e-7, 1.5e-7], ["0", "5.0e-08", "1.0e-07", "1.5e-07"]),
        ([0.0], ["0"]),
    ],
)
def test_labels_tell_ticks_apart(ticks, labels):
    assert label_ticks(ticks) == labels


@given(low=st.floats(-1, 0), high=st.floats(0, 1))
def test_labels_of_round_ticks_are_their_values(low, high):
    assume(high - low > 1e-9)
    ticks = round_ticks(low, high)
    spacing = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    labels = label_ticks(ticks)
    assert len(set(labels)) == len(labels)
    assert [float(label) for label in labels] == pytest.approx(ticks, abs=0.01 * spacing)


def test_axes_place_corners_and_middle():
    axes = Axes(size=(200, 100), x=(0, 4), y=(-1, 3))
    assert [axes.place(0, -1), axes.place(4, 3), axes.place(2, 1)] == [(0, 100), (200, 0), (100, 50)]


def test_curves_leave_out_first_evaluations_and_what_is_no_number():
    report = make_report([(0, 9.0, 9.0), (2, 0.1, 0.2), (5, math.nan, 0.3)], [], [(0, 0.0, 0.0)])
    assert collect_curves(report, "fr_gain") == [Curve([2], [0.1], 3 / (STEPS // 4))]
    assert collect_curves(report, "nr_gain") == [Curve([2, 5], [0.2, 0.3], 3 / (STEPS // 4))]


def test_median_is_taken_where_half_of_the_curves_reach():
    curves = [Curve([1, 3], [1.0, 3.0], 1), Curve([1, 5], [2.0, 6.0], 1), Curve([2, 3], [30.0, 40.0], 1)]
    assert median_curve(curves) == [(1, 1.5), (2, 3.0), (3, 4.0)]
    assert median_curve(curves[1:]) == [
        (n, pytest.approx(gain)) for n, gain in [(1, 2), (2, 16.5), (3, 22), (4, 5), (5, 6)]
    ]
    assert median_curve(curves[:1]) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_the_picture_says_what_was_spent():
    picture = draw_gain_curves(make_report(rising(0.001), [], rising(0.002, start=10)), 6e-4)
    assert (picture.dtype, picture.shape) == (np.uint8, SIZE)
    nfe = 1 + 12 + 1 + 7
    for text in ("3 tiles, 1 untouched", "threshold 0.0006", f"{nfe / 3:.1f} of 24 evaluations per tile"):
        assert count(picture[-60:], text_item(text, TEXT_PX)) == 1
    assert count(picture[-60:], colour_bar(1 + 12, TEXT_PX)) == 1  # the most that a tile took


def test_each_panel_has_its_own_gains():
    points = rising(0.001)
    left, right = plots(draw_gain_curves(make_report(points)))
    assert not np.array_equal(left, right)
    swapped = plots(draw_gain_curves(make_report([(index, nr, fr) for index, fr, nr in points])))
    np.testing.assert_array_equal(swapped, [right, left])


def test_curves_have_the_colours_of_their_share():
    every = [(i, 0.01, 0.0) for i in range(STEPS)]
    yellow = plots(draw_gain_curves(make_report(every)))[0].astype(int)
    violet = plots(draw_gain_curves(make_report([(0, 0.01, 0.0), (4, 0.02, 0.0), (20, 0.02, 0.0)], every)))[0].astype(
        int
    )
    assert (yellow[..., 0] - yellow[..., 2]).max() > 100  # red over blue
    assert (violet[..., 2] - violet[..., 1]).max() > 40  # blue over green


def test_thresholds_are_drawn_on_both_sides_of_zero_where_asked():
    report = make_report(rising(0.001), [(i, -fr, nr) for i, fr, nr in rising(0.001)])  # zero is in the middle
    without, with_lines = (plots(draw_gain_curves(report, threshold))[0].astype(int) for threshold in (None, 0.006))
    rows = np.flatnonzero((without != with_lines).any(2).mean(1) > 0.9)
    assert 2 <= len(rows) <= 4  # two lines of one or two rows
    assert set(rows) == {PLOT_PX[1] - 1 - row for row in rows}
    red, _, blue = with_lines[rows].mean((0, 1)) - without[rows].mean((0, 1))
    assert red - blue > 50


def test_median_is_drawn_on_top_of_many_curves_only():
    few, many = (plots(draw_gain_curves(make_report(*[rising(0.001)] * n)))[0] for n in (4, 5))
    assert (few == INK).all(2).sum() == 0
    assert (many == INK).all(2).sum() > 300


@pytest.mark.parametrize(
    ("tiles", "reason"),
    [
        ([[(index, 0.0, 0.0) for index in range(0, STEPS, 2)]] * 9, "the run was uniform"),
        ([[], []], "every tile was left untouched"),
        ([[(0, 0.0, 0.0)], []], "no tile was evaluated twice"),
        ([[(0, 0.0, 0.0), (2, math.nan, 0.0)]], "their metrics are undefined here"),
    ],
)
def test_a_run_without_gains_says_why(tiles, reason):
    report, measured = make_report(*tiles), make_report(*tiles, rising(0.001))
    assert explain_no_gains(report) == f"no gains were measured: {reason}"
    assert explain_no_gains(measured) == ""
    picture = draw_gain_curves(report, 6e-4)
    assert picture.shape == SIZE
    assert min((plot == INK).all(2).sum() for plot in plots(picture)) > 100  # the sentence
    assert count(picture[-60:], text_item("threshold 0.0006", TEXT_PX)) == 0


@pytest.mark.parametrize(("tiles", "steps"), [(1, 1), (1, 2), (1, 1000), (7, 5), (1000, 24)])
def test_any_run_is_drawn_at_one_size(tiles, steps):
    points = [(index, 0.01 * math.sin(index), 1e-7 * index) for index in range(0, steps, max(1, steps // 9))]
    picture = draw_gain_curves(make_report(*[points] * tiles, steps=steps), 5e-3)
    assert picture.shape == SIZE
    assert (picture[-3:] == PAPER).all()
    assert (picture[:, -3:] == PAPER).all()


def test_drawing_changes_nothing():
    report = make_report(rising(0.001), rising(0.002))
    before = replace(report, tiles=[replace(tile, steps=list(tile.steps)) for tile in report.tiles])
    first = draw_gain_curves(report, 6e-4)
    assert report == before
    np.testing.assert_array_equal(first, draw_gain_curves(report, 6e-4))
