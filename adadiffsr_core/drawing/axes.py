"""The frame of a plot: values to pixels, and ticks at round numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

from .lettering import load_font
from .primitives import FAINT_INK, Colour

GROUND: Colour = (32, 35, 42)
GRID: Colour = (56, 60, 69)
Range = tuple[float, float]
Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Where values lie in a plot.

    Attributes:
        size: (width, height) of the plot, px.
        x: values at the left and the right edge.
        y: values at the bottom and the top edge.
    """

    size: tuple[int, int]
    x: Range
    y: Range

    def place(self, x: float, y: float) -> Point:
        """Where a value lies: px from the left and from the top."""
        right, up = ((value - low) / (high - low) for value, (low, high) in ((x, self.x), (y, self.y)))
        return right * self.size[0], (1 - up) * self.size[1]


def draw_ground(axes: Axes, x_ticks: Sequence[float], y_ticks: Sequence[float], line_px: int) -> Image.Image:
    """An empty plot: its ground, with a line at every tick."""
    plot = Image.new("RGB", axes.size, GROUND)
    draw = ImageDraw.Draw(plot)
    for tick in x_ticks:
        draw.line([axes.place(tick, axes.y[0]), axes.place(tick, axes.y[1])], GRID, line_px)
    for tick in y_ticks:
        draw.line([axes.place(axes.x[0], tick), axes.place(axes.x[1], tick)], GRID, line_px)
    return plot


def write_ticks(
    panel: Image.Image, axes: Axes, corner: Point, x_ticks: Sequence[int], y_ticks: Sequence[float], text_px: int
) -> None:
    """Write the ticks' values about a plot whose left top corner is at `corner` of the panel."""
    draw, font = ImageDraw.Draw(panel), load_font(text_px)
    left, bottom = corner[0], corner[1] + axes.size[1]
    for index in x_ticks:
        draw.text((left + axes.place(index, 0)[0], bottom + text_px), str(index), FAINT_INK, font, anchor="mm")
    for tick, label in zip(y_ticks, label_ticks(y_ticks), strict=True):
        draw.text((left - text_px / 2, corner[1] + axes.place(0, tick)[1]), label, FAINT_INK, font, anchor="rm")


def widen_range(values: Sequence[float]) -> Range:
    """A range that holds the values and zero, with room at both ends; never empty.

    Args:
        values: finite numbers, or none.
    """
    low, high = min([0.0, *values]), max([0.0, *values])
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


def round_ticks(low: float, high: float, most: int = 9) -> list[float]:
    """The multiples of 1, 2 or 5 times a power of ten within [low, high], at most `most`.

    Args:
        low: of the range, below `high`.
        high: of the range.
        most: ticks wanted at most, from 4.
    """
    least = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def step_ticks(steps: int) -> list[int]:
    """Whole numbers from 0 to `steps`, both among them, evenly spaced but for the last; `steps` from 1."""
    spacing = math.ceil(max(1.0, *round_ticks(0, steps, 8)[1:2]))
    return [tick for tick in range(0, steps, spacing) if 2 * (steps - tick) >= spacing] + [steps]


def label_ticks(ticks: Sequence[float]) -> list[str]:
    """The ticks as texts of one precision; zero is "0"."""
    spacing = min((after - before for before, after in pairwise(ticks)), default=1.0)
    power = math.floor(math.log10(spacing) + 1e-9)
    style = f".{max(0, -power)}f" if power >= -5 else ".1e"
    return ["0" if abs(tick) < spacing / 2 else f"{tick:{style}}" for tick in ticks]
