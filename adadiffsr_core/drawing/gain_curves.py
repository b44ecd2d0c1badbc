"""The picture of a run's information gains: one curve per tile, over the denoising."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..sampling.report import RunReport
from .axes import Axes, draw_ground, round_ticks, step_ticks, widen_range, write_ticks
from .lettering import load_font
from .primitives import (
    FAINT_INK,
    INK,
    PAPER,
    Colour,
    colour_bar,
    flow_rows,
    join_row,
    line_height,
    ramp_colour,
    text_item,
)
from .regions import colour_end

PLOT_PX = (498, 420)  # of each panel, inside its ticks and titles
MARGIN_PX = (78, 46, 24, 62)  # of a panel about its plot: left, top, right, bottom
TEXT_PX = 15
SUPERSAMPLING = 3  # Pillow's lines have hard edges; reduced, they are smooth
THRESHOLD: Colour = (255, 112, 67)
TITLES = (("FR gain", "likeness to the input"), ("NR gain", "quality by itself"))
MIN_MEDIAN = 5  # curves; fewer can be told apart without it


@dataclass(frozen=True)
class Curve:
    """One tile's gains of one kind.

    Attributes:
        indices: base indices of its evaluations but the first, which compares with nothing.
        gains: one for each, finite.
        share: evaluations it took, of those at the colours' end.
    """

    indices: list[int]
    gains: list[float]
    share: float


def collect_curves(report: RunReport, kind: Literal["fr_gain", "nr_gain"]) -> list[Curve]:
    """The gains of every tile that has any; values that are not finite are left out."""
    curves = []
    for tile in report.tiles:
        points = [(step.index, float(getattr(step, kind))) for step in tile.steps[1:]]
        points = [(index, gain) for index, gain in points if math.isfinite(gain)]
        if points:
            curves.append(Curve([i for i, _ in points], [gain for _, gain in points], tile.nfe / _end(report)))
    return curves


def _end(report: RunReport) -> int:
    return colour_end(max(tile.nfe for tile in report.tiles), report.base_steps)


def explain_no_gains(report: RunReport) -> str:
    """Why no gain of the run tells anything; empty if one does."""
    gains = [gain for tile in report.tiles for step in tile.steps[1:] for gain in (step.fr_gain, step.nr_gain)]
    if any(gain and math.isfinite(gain) for gain in gains):
        return ""
    if not report.nfe:
        reason = "every tile was left untouched"
    elif not gains:
        reason = "no tile was evaluated twice"
    else:
        reason = "their metrics are undefined here" if any(gains) else "the run was uniform"
    return f"no gains were measured: {reason}"


def median_curve(curves: Sequence[Curve]) -> list[tuple[int, float]]:
    """(index, gain) in between and at the curves' points, wherever at least half of the curves reach."""
    last = max(curve.indices[-1] for curve in curves)
    places = np.arange(last + 1)
    rows = np.array([np.interp(places, c.indices, c.gains, left=np.nan, right=np.nan) for c in curves])
    reached = np.flatnonzero(2 * np.isfinite(rows).sum(axis=0) >= len(curves))
    return [(int(place), float(np.nanmedian(rows[:, place]))) for place in reached]


def draw_gain_curves(report: RunReport, gain_threshold: float | None = None) -> NDArray[np.uint8]:
    """The information gain of every tile at each of its evaluations: FR on the left, NR on the right.

    Curves are coloured by the evaluations that their tile took, as in the region map. A white curve is the
    median of the tiles, as far as half of them were still being evaluated.

    Source: Eq. 1, plotted over base indices.

    Args:
        report: of a run of any number of tiles; all images of a batch share the panels.
        gain_threshold: drawn as lines at plus and minus this value; None draws none.

    Returns:
        [H, W, 3] uint8, 1200 px wide and about 580 px high whatever the run.
    """
    kinds = [collect_curves(report, "fr_gain"), collect_curves(report, "nr_gain")]
    message = explain_no_gains(report)
    if message:
        kinds, gain_threshold = [[], []], None
    panels = [
        _draw_panel(title, curves, report.base_steps, gain_threshold, message)
        for title, curves in zip(TITLES, kinds, strict=True)
    ]
    row = join_row(panels, gap_px=0)
    marks = [_line_item("median", INK, 3)] if max(map(len, kinds)) >= MIN_MEDIAN else []
    if gain_threshold is not None:
        marks.append(_line_item(f"threshold {gain_threshold:g}", THRESHOLD, 1))
    legend = _draw_legend(report, marks, row.width - 4 * TEXT_PX)
    page = Image.new("RGB", (row.width, row.height + legend.height + 2 * TEXT_PX), PAPER)
    page.paste(row, (0, 0))
    page.paste(legend, (2 * TEXT_PX, row.height + TEXT_PX // 2))
    return np.array(page)


def _draw_panel(
    title: tuple[str, str], curves: Sequence[Curve], steps: int, threshold: float | None, message: str
) -> Image.Image:
    left, top, right, bottom = MARGIN_PX
    marks = [] if threshold is None else [-threshold, threshold]
    y = widen_range([gain for curve in curves for gain in curve.gains] + marks)
    x_ticks, y_ticks = step_ticks(steps), [0.0] if message else round_ticks(*y)
    fine = Axes(size=(PLOT_PX[0] * SUPERSAMPLING, PLOT_PX[1] * SUPERSAMPLING), x=(0, steps), y=y)
    plot = draw_ground(fine, x_ticks, y_ticks, SUPERSAMPLING)
    _draw_levels(plot, fine, marks)
    _draw_curves(plot, fine, curves)
    panel = Image.new("RGB", (left + PLOT_PX[0] + right, top + PLOT_PX[1] + bottom), PAPER)
    panel.paste(plot.reduce(SUPERSAMPLING), (left, top))
    write_ticks(panel, Axes(size=PLOT_PX, x=fine.x, y=y), (left, top), x_ticks, y_ticks, TEXT_PX)
    _write_titles(ImageDraw.Draw(panel), title, message)
    return panel


def _draw_levels(plot: Image.Image, axes: Axes, marks: Sequence[float]) -> None:
    """Zero, and the threshold on both sides of it."""
    draw = ImageDraw.Draw(plot)
    for level, colour in [(0.0, FAINT_INK), *((mark, THRESHOLD) for mark in marks)]:
        draw.line([axes.place(axes.x[0], level), axes.place(axes.x[1], level)], colour, SUPERSAMPLING)


def _draw_curves(plot: Image.Image, axes: Axes, curves: Sequence[Curve]) -> None:
    """Thin and, where there are many, translucent; then the median on top."""
    draw = ImageDraw.Draw(plot, "RGBA")  # blends what it draws
    opacity = max(40, round(255 / max(1.0, len(curves) / 24) ** 0.5))
    radius = SUPERSAMPLING * (3.5 if len(curves) <= 12 else 2.5 if len(curves) <= 60 else 1.5)
    for curve in sorted(curves, key=lambda curve: curve.share):
        colour = (*_lighten(ramp_colour(curve.share)), opacity)
        points = [axes.place(*point) for point in zip(curve.indices, curve.gains, strict=True)]
        draw.line(points, colour, round(1.7 * SUPERSAMPLING), joint="curve")
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)
    if len(curves) >= MIN_MEDIAN:
        points = [axes.place(*point) for point in median_curve(curves)]
        for ink, width in ((PAPER, 6), (INK, 3)):
            draw.line(points, ink, width * SUPERSAMPLING, joint="curve")


def _lighten(colour: Colour) -> Colour:
    """Towards the ink by a quarter: the ramp's violet would be lost on dark ground."""
    red, green, blue = (round(0.75 * level + 0.25 * ink) for level, ink in zip(colour, INK, strict=True))
    return red, green, blue


def _write_titles(draw: ImageDraw.ImageDraw, title: tuple[str, str], message: str) -> None:
    left, top = MARGIN_PX[:2]
    right, bottom, middle = left + PLOT_PX[0], top + PLOT_PX[1], left + PLOT_PX[0] / 2
    name, meaning = title
    font, large = load_font(TEXT_PX), load_font(TEXT_PX + 4)
    draw.text((left, top / 2), name, INK, large, anchor="lm")
    draw.text((left + large.getlength(name) + TEXT_PX, top / 2 + 1), meaning, FAINT_INK, font, anchor="lm")
    below = bottom + 1.7 * TEXT_PX + line_height(TEXT_PX) / 2
    for x, text, anchor in ((left, "noisy", "lm"), (middle, "base step", "mm"), (right, "clean", "rm")):
        draw.text((x, below), text, INK, font, anchor=anchor)
    draw.text((middle, top + 0.4 * PLOT_PX[1]), message, INK, font, anchor="mm")


def _draw_legend(report: RunReport, marks: Sequence[Image.Image], width: int) -> Image.Image:
    untouched = sum(not tile.steps for tile in report.tiles)
    tiles = f"{len(report.tiles)} tile" + "s" * (len(report.tiles) != 1)
    mean = text_item(f"{report.mean_nfe:.1f} of {report.base_steps} evaluations per tile", TEXT_PX)
    items = [
        colour_bar(_end(report), TEXT_PX),
        *marks,
        text_item(tiles + (f", {untouched} untouched" if untouched else ""), TEXT_PX),
        join_row([mean, text_item(f"{report.saved:.0%} saved", TEXT_PX, FAINT_INK)], TEXT_PX // 2),
    ]
    return flow_rows(items, width, 2 * TEXT_PX)


def _line_item(name: str, colour: Colour, line_px: int) -> Image.Image:
    swatch = Image.new("RGB", (2 * TEXT_PX, line_px), colour)
    return join_row([swatch, text_item(name, TEXT_PX)], TEXT_PX // 2)
