"""Links as the front end draws them: one curve, or several through reroutes, from an output to an input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]  # left, top, right and bottom
Path = tuple[Point, ...]  # of reroutes, from a link's start to its end; those of one output may begin alike
Curve = npt.NDArray[np.float64]  # points, [N,2]

# How far a curve's handles are from its ends: this part of its length; at a reroute no further than that, px.
_PART, _FARTHEST = 0.25, 20
_ALONG = np.linspace(0, 1, 129)[:, None]
_WEIGHTS = [math.comb(3, power) * (1 - _ALONG) ** (3 - power) * _ALONG**power for power in range(4)]


@dataclass(frozen=True)
class Link:
    """A link on the canvas.

    Attributes:
        number: of the link.
        start, end: where it leaves and where it arrives.
        source, target: its nodes.
    """

    number: int
    start: Point
    end: Point
    source: Rectangle
    target: Rectangle

    def to_edges(self) -> Link:
        """As the new renderer has it: from edge to edge, where the classic one has its slots within the nodes."""
        return replace(self, start=(self.source[2], self.start[1]), end=(self.target[0], self.end[1]))


def draw(paths: Mapping[Link, Path]) -> Iterator[tuple[Curve, set[Rectangle]]]:
    """Curves of all links of one output, each with the nodes at its ends."""
    slopes = _find_slopes(paths)
    for link, path in paths.items():
        stops = [link.start, *path, link.end]
        for place, (one, other) in enumerate(pairwise(stops)):
            far = _PART * math.dist(one, other)
            near = min(far, _FARTHEST)
            leaving = _go(one, slopes[path[:place]], near) if place else _go(one, 0, far)
            arriving = _go(other, slopes[path[: place + 1]], -near) if place < len(path) else _go(other, 0, -far)
            handles = (one, leaving, arriving, other)
            curve = sum(weight * np.array(handle) for weight, handle in zip(_WEIGHTS, handles, strict=True))
            yield curve, {*([] if place else [link.source]), *([] if place < len(path) else [link.target])}


def _find_slopes(paths: Mapping[Link, Path]) -> dict[Path, float]:
    """Direction of the curve at each reroute, known by the way to it: halfway between coming and going on."""
    onward: dict[Path, list[float]] = {}
    coming: dict[Path, float] = {}
    for link, path in paths.items():
        stops = [link.start, *path, link.end]
        for place in range(1, len(stops) - 1):
            coming[path[:place]] = _look(stops[place - 1], stops[place])
            onward.setdefault(path[:place], []).append(_look(stops[place], stops[place + 1]))
    return {way: _halve(coming[way], onward[way]) for way in onward}


def _halve(coming: float, onward: Iterable[float]) -> float:
    turn = (coming - float(np.mean(list(onward)))) / 2
    return coming - turn - (math.pi if abs(turn) > math.pi / 2 else 0)


def _look(one: Point, other: Point) -> float:
    return math.atan2(other[1] - one[1], other[0] - one[0])


def _go(point: Point, direction: float, distance: float) -> Point:
    return point[0] + distance * math.cos(direction), point[1] + distance * math.sin(direction)
