"""Reroutes of a laid-out graph, as the front end saves them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .curves import Link, Path, Point, Rectangle
from .layout import GAP, HEADER, MARGIN, Box
from .node import Node
from .routes import find_paths

_SLOT, _FIRST_SLOT, _INSET = 20, 14, 10  # from slot to slot, from a node's top to its first, and from its edge, px
_DOOR_INSET = 24  # of the slots at either end of a subgraph, from its corner, px
_FOLDED, _CHARACTER = 50, 7.2  # how wide a folded node is: with no title, and for each character, px
_Json = dict[str, Any]


def make_reroutes(
    nodes: Sequence[Node],
    links: Sequence[Sequence[Any]],
    boxes: Mapping[int, Box],
    groups: Sequence[_Json],
    doors: Mapping[int, Rectangle] | None = None,
) -> tuple[list[_Json], dict[int, int]]:
    """All reroutes, and the last one of each link that has any, by its number.

    Args:
        nodes, links: of a graph.
        boxes, groups: from `arrange`.
        doors: either end of a subgraph, by its id.

    Raises:
        ValueError: a link cannot be led past the nodes.
    """
    places = {node.id: _Place(node, boxes[node.id]) for node in nodes}
    ends: dict[int, _Place | _Door] = {**places, **{number: _Door(area) for number, area in (doors or {}).items()}}
    drawn = [
        Link(number, ends[source].output(slot), ends[target].input(place), ends[source].area, ends[target].area)
        for number, source, slot, target, place, _ in links
    ]
    rows = sorted({top + height + GAP / 2 for _, top, _, height in (group["bounding"] for group in groups)})
    paths = find_paths(drawn, [place.area for place in places.values()], rows, GAP + 2 * MARGIN)
    return _paths_to_ui(paths, {number: (source, slot) for number, source, slot, *_ in links})


def _paths_to_ui(
    paths: Mapping[int, Path], outputs: Mapping[int, tuple[int, int]]
) -> tuple[list[_Json], dict[int, int]]:
    """Links of one output have those reroutes in common with which their paths begin alike."""
    reroutes: dict[tuple[tuple[int, int], Path], _Json] = {}
    for number, path in sorted(paths.items()):
        before: _Json = {}
        for place, (x, y) in enumerate(path, start=1):
            parent = {"parentId": before["id"]} if before else {}
            new = {"id": len(reroutes) + 1, **parent, "pos": [round(x), round(y)], "linkIds": []}
            before = reroutes.setdefault((outputs[number], path[:place]), new)
            before["linkIds"].append(number)
    last = {number: reroutes[outputs[number], path]["id"] for number, path in paths.items()}
    return list(reroutes.values()), last


class _Place:
    """A node on the canvas: where its slots are, and what it covers or may come to cover."""

    def __init__(self, node: Node, box: Box) -> None:
        self._node, self._box = node, box
        height = 0 if node.is_folded else max(box.height, node.room)
        bottom = math.inf if node.is_growing else box.top + height
        self.area = (box.left, box.top - HEADER, box.left + box.width, bottom)

    def input(self, slot: int) -> Point:
        if self._node.is_folded:
            return self._box.left, self._box.top - HEADER / 2
        return self._box.left + _INSET, self._box.top + _FIRST_SLOT + _SLOT * slot

    def output(self, slot: int) -> Point:
        if not self._node.is_folded:
            return self._box.left + self._box.width + 1 - _INSET, self._box.top + _FIRST_SLOT + _SLOT * slot
        title = self._node.title or self._node.schema["display_name"]
        width = min(self._box.width, _FOLDED + round(_CHARACTER * len(title)))
        return self._box.left + width, self._box.top - HEADER / 2


class _Door:
    """Either end of a subgraph."""

    def __init__(self, area: Rectangle) -> None:
        self.area = area

    def input(self, slot: int) -> Point:
        return self.area[0] + _DOOR_INSET, self.area[1] + _DOOR_INSET + _SLOT * slot

    def output(self, slot: int) -> Point:
        return self.area[2] - _DOOR_INSET, self.area[1] + _DOOR_INSET + _SLOT * slot
