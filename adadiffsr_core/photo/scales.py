"""Scales that a model was trained for, and what is done about the others.

Source: decision D41.
"""

import math
from dataclasses import dataclass

from ..errors import ConfigError
from .limits import MAX_PIXELS, MAX_SIDE

Size = tuple[int, int]

SAFE_SCALE = 4.0  # where work is done for a scale that the model does not know


@dataclass(frozen=True)
class Scales:
    """How many times larger a model was trained to make pictures.

    Attributes:
        least, most: both ends included.

    Raises:
        ConfigError: they are no range of factors above 0.
    """

    least: float = 3.0
    most: float = 8.0

    def __post_init__(self) -> None:
        if not 0 < self.least <= self.most < math.inf:
            raise ConfigError(f"scales go from a factor above 0 to another, got {self.least:g} to {self.most:g}")


@dataclass(frozen=True)
class Work:
    """The size at which a picture is restored.

    Attributes:
        size: (height, width), px; no side smaller than the result's.
        note: one sentence if the scale is not one that the model knows, else empty.
    """

    size: Size
    note: str = ""


def target_size(source: Size, scale: float, size: Size | int | None = None, most: int | None = MAX_PIXELS) -> Size:
    """(height, width) of the result, px.

    Args:
        source: (height, width) of the photograph.
        scale: used if `size` is None.
        size: (height, width), or the long side alone, which keeps the shape.
        most: pixels that fit; None where pictures are made in bands.

    Raises:
        ConfigError: the result would have no pixels, or more than fit, or the scale is no number.
    """
    if isinstance(size, int):
        scale = size / max(source)
    if not math.isfinite(scale):
        raise ConfigError(f"a picture becomes a number of times larger, such as 4, got {scale}")
    height, width = size if isinstance(size, tuple) else (round(side * scale) for side in source)
    if min(height, width) < 1:
        raise ConfigError(f"the result would be {width} x {height} px; ask for at least 1 px on each side")
    if max(height, width) > MAX_SIDE:
        raise ConfigError(f"the result would be {width} x {height} px; at most {MAX_SIDE:,} px a side fit")
    if most is not None and height * width > most:
        raise ConfigError(f"the result would be {width} x {height} px; at most {most // 10**6} megapixels fit")
    return height, width


def plan_work(source: Size, size: Size, scales: Scales, most: int | None = MAX_PIXELS) -> Work:
    """Choose the size at which a picture is restored before it is brought to the size that was asked for.

    A scale below the model's makes both axes be worked at `SAFE_SCALE` at least, so that a picture keeps its shape.
    What gets smaller is first reduced to its result's size, which can hold no more, so that the work stays in
    proportion. Work of more pixels than fit is brought down to them.

    Args:
        source: (height, width) of the picture, px.
        size: (height, width) of the result, px.
        scales: what the model knows.
        most: pixels that fit; None where pictures are made in bands.
    """
    # Sides are whole: half a pixel's rounding makes no scale a strange one.
    is_below = any(after + 0.5 < scales.least * before for before, after in zip(source, size, strict=True))
    is_above = any(after - 0.5 > scales.most * before for before, after in zip(source, size, strict=True))
    work = _raise_size(source, size, scales, most) if is_below else size
    if not is_below and not is_above:
        return Work(work)
    known = f"the {scales.least:g} to {scales.most:g} that this model was trained for"
    asked = f"{_describe(source, size)} times larger is outside {known}"
    if work == size:
        return Work(work, f"{asked}; expect less of the result")
    return Work(work, f"{asked}; worked at {work[1]} x {work[0]} px and reduced")


def base_size(source: Size, size: Size) -> Size:
    """What is enlarged: the picture, or as much of it as the result can hold; (height, width), px."""
    return min(source[0], size[0]), min(source[1], size[1])


def _raise_size(source: Size, size: Size, scales: Scales, most: int | None) -> Size:
    scale = min(max(SAFE_SCALE, scales.least), scales.most)
    wanted = [max(round(scale * side), after) for side, after in zip(base_size(source, size), size, strict=True)]
    shrink = 1.0 if most is None else min(1.0, math.sqrt(most / math.prod(wanted)))
    height, width = (max(int(side * shrink), after) for side, after in zip(wanted, size, strict=True))
    return height, width


def _describe(source: Size, size: Size) -> str:
    """`2`, or `2 x 1.5` for width and height where they differ by more than rounding."""
    down, across = (after / before for before, after in zip(source, size, strict=True))
    is_even = abs(size[0] - across * source[0]) <= 1 or abs(size[1] - down * source[1]) <= 1
    return f"{max(down, across):.3g}" if is_even else f"{across:.3g} x {down:.3g}"
