"""Rectangles of a canvas as a tile sees them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

# The least side that the host itself gives a conditioning's area, latent px.
MIN_SIDE = 8


class Box(NamedTuple):
    """A rectangle, latent px: on the canvas, or within a tile."""

    top: int
    left: int
    height: int
    width: int


def to_box(area: Sequence[Any], canvas: tuple[int, int]) -> Box:
    """The host's area (height, width, y, x), cut off where the canvas ends, as the host does.

    With frames it is (frames, height, width, frame, y, x).
    """
    half = len(area) // 2
    height, width, top, left = (int(value) for value in (*area[half - 2 : half], *area[-2:]))
    return Box(top, left, min(height, canvas[0] - top), min(width, canvas[1] - left))


def to_area(box: Box) -> tuple[int, int, int, int]:
    """A box as the host's area."""
    return box.height, box.width, box.top, box.left


def intersect(box: Box, tile: Box) -> Box | None:
    """The part of a box on the canvas that a tile holds, counted from the tile's corner; None if it holds none."""
    top, left = max(box.top, tile.top), max(box.left, tile.left)
    height = min(box.top + box.height, tile.top + tile.height) - top
    width = min(box.left + box.width, tile.left + tile.width) - left
    return Box(top - tile.top, left - tile.left, height, width) if min(height, width) > 0 else None


def widen(cut: Box, box: Box, tile: Box) -> Box:
    """Grow a sliver, within its tile, to the least side that a network makes sense of, or the whole box's if less."""

    def axis(start: int, length: int, whole: int, room: int) -> tuple[int, int]:
        wanted = min(max(length, min(MIN_SIDE, whole)), room)
        return min(start, room - wanted), wanted

    top, height = axis(cut.top, cut.height, box.height, tile.height)
    left, width = axis(cut.left, cut.width, box.width, tile.width)
    return Box(top, left, height, width)


def inside(cut: Box, tile: Box, device: torch.device) -> Tensor:
    """1 within `cut`, 0 elsewhere, `[1,h,w]` of the tile's size."""
    mask = torch.zeros(1, tile.height, tile.width, device=device)
    mask[:, cut.top : cut.top + cut.height, cut.left : cut.left + cut.width] = 1
    return mask
