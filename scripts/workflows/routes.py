"""Links that would be drawn under a node, led through the gaps between boxes by the front end's own reroutes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise, product

import numpy as np

from .curves import Curve, Link, Path, Point, Rectangle, draw

_CLEAR = 4  # px between a link and a node
_LANES, _FIRST, _NEXT = 8, 18, 24  # above all boxes: how many, how high the lowest is, and from one to the next, px
_SIDES = 0, -7, 7  # px from the middle of a gap
_SHOULDERS = None, 0, 48  # px from an end up or down to a reroute, where there is one
_PARTS = [part / 20 for part in range(21)]  # of a link's height: where a single reroute may be
_PRICE, _CROWDED, _APART = 60, 400, 22  # of a reroute, and of one so near to another or to a link, px of length


def find_paths(links: Sequence[Link], nodes: Sequence[Rectangle], rows: Sequence[float], gap: float) -> dict[int, Path]:
    """Reroutes of each link that would be under a node without any, by its number.

    Args:
        links: all of a graph, those of one output together.
        nodes: headers and what they may grow by included.
        rows: heights right below boxes.
        gap: between the nodes of two columns, px.

    Raises:
        ValueError: there is no way for a link.
    """
    outputs = [list(output) for _, output in groupby(sorted(links, key=_origin), key=_origin)]
    router = _Router(nodes, rows, gap)
    for output in sorted(outputs, key=_reach):  # so that long ones are led about short ones
        router.lead(output)
    return router.paths


class _Router:
    def __init__(self, nodes: Sequence[Rectangle], rows: Sequence[float], gap: float) -> None:
        self.paths: dict[int, Path] = {}
        self._nodes, self._half_gap = nodes, gap / 2
        self._rows = rows
        self._lanes = [*(-_FIRST - _NEXT * lane for lane in range(_LANES)), *rows]
        self._points: set[Point] = set()
        self._curves: list[Curve] = []
        self._near: dict[Point, int] = {}  # how many links and reroutes are near a point

    def lead(self, output: Sequence[Link]) -> None:
        """Find a way for those that need one: together if they can, or else each its own."""
        hidden = [link for link in output if not self._is_clear({link: ()})]
        if not hidden:
            return
        ways = sorted(self._find_ways(hidden), key=self._price)
        if way := next(filter(self._is_clear, ways), None):
            self.paths |= {link.number: path for link, path in way.items()}
            self._points |= {point for path in way.values() for point in path}
            self._curves += [curve for curve, _ in draw(way)]
            self._near.clear()
        elif len(hidden) == 1:
            raise ValueError(f"there is no way for {hidden[0]}; leave more room between boxes")
        else:
            for link in hidden:
                self.lead([link])

    def _find_ways(self, links: Sequence[Link]) -> Iterator[Mapping[Link, Path]]:
        """Along one lane, up to it in the gap after the source and down in the gap before each target.

        Or by another gap and along a row beneath boxes, or by a single reroute between neighbours.
        """
        after = links[0].source[2] + self._half_gap
        before = {link: link.target[0] - self._half_gap for link in links}
        for lane, leave, arrive in product(self._lanes, _SIDES, _SIDES):
            for up, down in product(_SHOULDERS, _SHOULDERS):
                yield {link: _go_along(link, lane, after + leave, before[link] + arrive, up, down) for link in links}
        gaps = {left - self._half_gap for left, *_ in self._nodes}
        between = sorted(gap for gap in gaps if after < gap < min(before.values()))
        for lane, row, gap, leave, side in product(self._lanes, self._rows, between, _SIDES, _SIDES):
            corners = (after + leave, lane), (gap + side, lane), (gap + side, row)
            yield {link: (*corners, (before[link], row)) for link in links}
        middles = {round(link.start[1] + part * (link.end[1] - link.start[1])) for link in links for part in _PARTS}
        for y, side in product(sorted(middles), _SIDES):
            yield dict.fromkeys(links, ((after + side, y),))
            yield {link: ((before[link] + side, y),) for link in links}

    def _is_clear(self, way: Mapping[Link, Path]) -> bool:
        """Whether no link is under a node that it does not begin or end at, in either renderer."""
        edges = {link.to_edges(): path for link, path in way.items()}
        return not any(self._find_above(curve) - own for paths in (way, edges) for curve, own in draw(paths))

    def _find_above(self, curve: Curve) -> set[Rectangle]:
        """The nodes that it passes under."""
        left, top, right, bottom = np.array(self._nodes).T
        x, y = curve[:, :1], curve[:, 1:]
        beside = (x < left - _CLEAR) | (x > right + _CLEAR) | (y < top - _CLEAR) | (y > bottom + _CLEAR)
        return {node for node, is_beside in zip(self._nodes, beside.all(axis=0), strict=True) if not is_beside}

    def _price(self, way: Mapping[Link, Path]) -> float:
        points = {point for path in way.values() for point in path}
        length = sum(math.dist(*ends) for link, path in way.items() for ends in pairwise([link.start, *path, link.end]))
        return length + sum(_PRICE + _CROWDED * self._count_near(point) for point in points)

    def _count_near(self, point: Point) -> int:
        if point not in self._near:
            links = sum(bool(np.hypot(*(curve - point).T).min() < _APART / 2) for curve in self._curves)
            self._near[point] = links + sum(math.dist(point, other) < _APART for other in self._points)
        return self._near[point]


def _go_along(link: Link, lane: float, leave: float, arrive: float, up: int | None, down: int | None) -> Path:
    def shoulder(x: float, y: float, away: int | None) -> Path:
        return () if away is None else ((x, y + math.copysign(away, lane - y)),)

    return (
        *shoulder(leave, link.start[1], up),
        *dict.fromkeys([(leave, lane), (arrive, lane)]),
        *shoulder(arrive, link.end[1], down),
    )


def _origin(link: Link) -> tuple[Rectangle, Point]:
    return link.source, link.start


def _reach(output: Sequence[Link]) -> float:
    return max(link.target[0] - link.source[2] for link in output)
