"""Where nodes are on the canvas: columns of coloured boxes, nothing over anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .graph import Column
from .node import NOTE, Node

HEADER, GROUP_HEADER, MARGIN, BELOW, GAP = 30, 36, 6, 10, 16
SMALLEST = 88  # the front end makes no text smaller
_ROW, _WIDGET, _LINE, _CHARACTER = 20, 25, 17, 5.8


@dataclass(frozen=True)
class Box:
    """A place on the canvas, px; a node's header is above its top."""

    left: int
    top: int
    width: int
    height: int


def arrange(columns: Sequence[Column]) -> tuple[Mapping[int, Box], list[dict[str, Any]]]:
    """Boxes of nodes by their ids, and the groups about them as the front end saves them.

    A column is right of the one before it, at the same height, or else below the one that it names.
    """
    boxes: dict[int, Box] = {}
    groups: list[dict[str, Any]] = []
    ends: dict[int, tuple[int, int]] = {}  # of each column: its left and its bottom
    left = start = 0
    for column in columns:
        if column.under is not None:
            left, bottom = ends[id(column.under)]
            start = bottom + GAP
        top = start
        for title, colour, nodes in column.groups:
            first, top = top, top + GROUP_HEADER
            for node in nodes:
                box = Box(left + MARGIN, top + HEADER, column.width, _height(node, column.width))
                boxes[node.id] = box
                top = box.top + max(0 if node.is_folded else box.height, node.room) + BELOW
            bounding = [left, first, column.width + 2 * MARGIN, top - first]
            groups.append({"id": len(groups) + 1, "title": title, "bounding": bounding, "color": colour, "flags": {}})
            top += GAP
        ends[id(column)] = left, top - GAP
        left += column.width + 2 * MARGIN + GAP
    return boxes, groups


def _height(node: Node, width: int) -> int:
    if node.height is not None:
        return node.height
    if node.class_type == NOTE:
        return _text_height(node.values["text"], width)
    widgets = sum(slot.is_widget + slot.has_control for slot in node.inputs)
    rows = max(len(node.sockets), len(node.schema["output"]))
    return 16 + _ROW * rows + _WIDGET * widgets


def _text_height(text: str, width: int) -> int:
    """What Markdown takes: wrapped lines, and half a line about paragraphs and headings."""
    across = (width - 40) / _CHARACTER
    lines = sum(max(0.5, math.ceil(len(line) / across)) for line in text.splitlines())
    return max(SMALLEST, round(_LINE * (lines + 2.5)))
