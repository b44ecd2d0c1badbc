"""Tiles as the user sees them: where each lies in the photograph, and what was spent on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..sampling.report import RunReport
from ..text import quoted

TILE_CLASSES = ("growing", "stable", "saturated", "untouched")
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Region:
    """One tile of a photograph and what was spent on it.

    Attributes:
        top_px: first row of the tile in the photograph.
        left_px: first column.
        height_px: rows of the tile, overlaps included.
        width_px: columns.
        nfe: evaluations of the network spent on it.
        max_nfe: evaluations it would have taken with every step.
        tile_class: how it ended: growing, stable, saturated or untouched.

    Raises:
        ConfigError: there is no such class.
    """

    top_px: int
    left_px: int
    height_px: int
    width_px: int
    nfe: int
    max_nfe: int
    tile_class: str

    def __post_init__(self) -> None:
        if self.tile_class not in TILE_CLASSES:
            raise ConfigError(f"a region is {', '.join(TILE_CLASSES)}; got {quoted(self.tile_class, 80)}")


def colour_end(most: int, steps: int) -> int:
    """Evaluations at the bright end of colours: a quarter of the base steps, or the most that a region took if that is
    more.

    Over all base steps the regions of a run that saves four fifths would look alike.
    """
    return max(1, most, -(-steps // 4))


def report_to_regions(report: RunReport, factor: float | tuple[float, float], image: int = 0) -> list[Region]:
    """The tiles of one image of a run.

    Args:
        report: of the run.
        factor: image px per latent px, or (down, across) where they differ; edges are rounded to whole pixels.
        image: which image of the batch.
    """
    down, across = factor if isinstance(factor, tuple) else (factor, factor)
    return [
        Region(
            top_px=round(tile.top * down),
            left_px=round(tile.left * across),
            height_px=round((tile.top + tile.height) * down) - round(tile.top * down),
            width_px=round((tile.left + tile.width) * across) - round(tile.left * across),
            nfe=tile.nfe,
            max_nfe=report.base_steps,
            tile_class=tile.outcome,
        )
        for tile in report.tiles
        if tile.image == image
    ]


def regions_to_mask(regions: Sequence[Region], canvas_px: tuple[int, int], size_px: tuple[int, int]) -> Tensor:
    """Where more was spent than elsewhere, as levels of a compute mask: 0.5 is the regions' mean, 1 twice as much.

    So a picture on which all was spent alike is grey, which as a compute mask changes nothing; black is untouched.

    Args:
        regions: tiles of a regular grid over the canvas, in any order.
        canvas_px: (height, width) of the canvas the regions lie on.
        size_px: (height, width) of the mask, from 1; the cells are stretched to it.

    Returns:
        [*size_px] float32 in [0, 1].

    Raises:
        ShapeError: the regions are no grid over the canvas.
    """
    zoom = [side / canvas for side, canvas in zip(size_px, canvas_px, strict=True)]
    mask = torch.empty(size_px)
    mean = sum(region.nfe for region in regions) / len(regions)
    for region, (left, top, right, bottom) in zip(regions, split_overlaps(regions, *canvas_px), strict=True):
        rows, columns = (round(top * zoom[0]), round(bottom * zoom[0])), (round(left * zoom[1]), round(right * zoom[1]))
        mask[slice(*rows), slice(*columns)] = min(1.0, region.nfe / (2 * mean)) if mean else 0.0
    return mask


def split_overlaps(regions: Sequence[Region], height_px: int, width_px: int) -> list[Box]:
    """Cells that cover the picture once: neighbours share their overlap half and half.

    Returns:
        (left, top, right, bottom) in px for each region, right and bottom exclusive.

    Raises:
        ShapeError: the regions are no regular grid, or one begins outside the picture.
    """
    row_heights = {region.top_px: region.height_px for region in regions}
    column_widths = {region.left_px: region.width_px for region in regions}
    places = {(region.top_px, region.left_px) for region in regions}
    if not regions or not len(places) == len(regions) == len(row_heights) * len(column_widths):
        raise ShapeError(f"{len(regions)} regions do not make a grid of rows and columns")
    if max(row_heights) >= height_px or max(column_widths) >= width_px:
        raise ShapeError(f"a region begins outside the picture of {width_px} x {height_px} px")
    rows, columns = _cut(row_heights, height_px), _cut(column_widths, width_px)
    return [
        (columns[region.left_px][0], rows[region.top_px][0], columns[region.left_px][1], rows[region.top_px][1])
        for region in regions
    ]


def _cut(lengths: dict[int, int], total: int) -> dict[int, tuple[int, int]]:
    """Start of a row or column -> where its cell begins and ends."""
    starts = sorted(lengths)
    middles = [(start + lengths[start] + after) // 2 for start, after in pairwise(starts)]
    return dict(zip(starts, pairwise([0, *middles, total]), strict=True))
