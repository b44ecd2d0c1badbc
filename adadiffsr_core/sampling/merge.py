"""The Gaussian merge: overlapping tiles become one canvas, with no seam where they meet.

Source: section 3.4; the Gaussian is that of Mixture of Diffusers (Barbero Jimenez, 2023) and StableSR
(Wang et al., 2024), centred on both axes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from .tiles import TileGrid, crop_canvas
from .transfer import send

SPREAD = 0.1  # the variance of 0.01 of both sources
MIN_SPREAD = 0.02  # keeps a tile's edge above exp(-313), far from underflow


class TileMerger:
    """Collects tiles in any order and merges them: `sum(w * x) / sum(w)`, with w a Gaussian about each tile's centre.

    The sum of weights is known from the grid, as a product of a row and a column profile, and every weight is divided
    by it beforehand. So one canvas is all the memory needed, and where a tile lies alone its weight is exactly 1 and
    its values come through to the bit, however small the Gaussian is there.

    Source: section 3.4, decision D10.
    """

    def __init__(self, grid: TileGrid, images: int = 1, spread: float = SPREAD) -> None:
        """Prepare to merge the tiles of a batch of images.

        Args:
            grid: where tiles are.
            images: N, images in the batch.
            spread: standard deviation of the Gaussian as a fraction of the tile's side, from 0.02; a greater one
                blends more softly and lets more of a tile's edges through.

        Raises:
            ConfigError: the spread is too small or there are no images.
        """
        if images < 1:
            raise ConfigError(f"cannot merge the tiles of {images} images; there must be at least 1")
        self.grid = grid
        self.images = images
        self._row_weights = _axis_weights(grid.tops, grid.tile[0], spread)
        self._col_weights = _axis_weights(grid.lefts, grid.tile[1], spread)
        self._missing = set(range(images * grid.count))
        self._canvas: Tensor | None = None
        self._dtype = torch.float32

    def merge_weight(self, tile_id: int) -> Tensor:
        """Gaussian weight map of a tile over the sum of all tiles' maps, [1,1,h,w] float32 in (0, 1]."""
        row, col = divmod(tile_id % self.grid.count, self.grid.cols)
        return (self._row_weights[row, :, None] * self._col_weights[col])[None, None]

    def add(self, tile_ids: Sequence[int], tiles: Tensor) -> None:
        """Add tiles to the canvas, in float32.

        Args:
            tile_ids: ids in [0, images * grid.count), each once over all calls.
            tiles: [len(tile_ids),C,h,w] on any device; the first call decides the canvas's channels, dtype and device.

        Raises:
            ShapeError: the tiles are not of the grid's size or number, or one was added before.
        """
        self._check(tile_ids, tiles)
        self._spread_out(self._canvas_for(tiles), tile_ids, tiles)
        self._missing.difference_update(tile_ids)

    def update(self, tile_ids: Sequence[int], before: Tensor, after: Tensor) -> None:
        """Put other values in the place of what tiles were added with.

        Where all are there anew the canvas is begun again, so that nothing is left of rounding.

        Args:
            tile_ids: of tiles that were added.
            before, after: what they were and are, `[len(tile_ids),C,h,w]`, in the order of the ids.
        """
        if self._canvas is None:
            raise ShapeError("no tile was ever added; there is none to change")
        if len(tile_ids) == self.images * self.grid.count:
            self._spread_out(self._canvas.zero_(), tile_ids, after)
        elif tile_ids:
            self._spread_out(self._canvas, tile_ids, after.float() - before.float())

    def _spread_out(self, canvas: Tensor, tile_ids: Sequence[int], tiles: Tensor) -> None:
        height, width = self.grid.tile
        for tile_id, tile in zip(tile_ids, tiles, strict=True):
            image, top, left = self.grid.locate(tile_id)
            place = canvas[image, :, top : top + height, left : left + width]
            place.addcmul_(tile.float(), self.merge_weight(tile_id)[0])

    def finish(self) -> Tensor:
        """The merged canvas, [images,C,*grid.canvas], in the dtype of the tiles.

        Raises:
            ShapeError: a tile was never added.
        """
        if self._canvas is None or self._missing:
            total = self.images * self.grid.count
            raise ShapeError(f"{len(self._missing)} of {total} tiles were never added; the merge needs every tile")
        return crop_canvas(self._canvas, self.grid).to(self._dtype)

    def _check(self, tile_ids: Sequence[int], tiles: Tensor) -> None:
        if tiles.ndim != 4 or tuple(tiles.shape[-2:]) != self.grid.tile or len(tiles) != len(tile_ids):
            height, width = self.grid.tile
            raise ShapeError(
                f"got tiles of shape {tuple(tiles.shape)}; expected [{len(tile_ids)}, C, {height}, {width}]"
            )
        if not self._missing.issuperset(tile_ids) or len(set(tile_ids)) < len(tile_ids):
            raise ShapeError(f"of tiles {list(tile_ids)} one was added before, or is not on this grid")

    def _canvas_for(self, tiles: Tensor) -> Tensor:
        if self._canvas is None:
            self._canvas = tiles.new_zeros((self.images, tiles.shape[1], *self.grid.padded), dtype=torch.float32)
            self._dtype = tiles.dtype
            self._row_weights = send(self._row_weights, tiles.device)
            self._col_weights = send(self._col_weights, tiles.device)
        return self._canvas


def merge_tiles(tiles: Tensor, grid: TileGrid, spread: float = SPREAD) -> Tensor:
    """Compose the canvas of all tiles of a batch at once.

    Source: section 3.4; for `merge = every_step` decision D10.

    Args:
        tiles: [N * grid.count,C,h,w] in the order of their ids.
        grid: where tiles are.
        spread: as `TileMerger`.

    Returns:
        [N,C,*grid.canvas] in the dtype of the tiles.

    Raises:
        ShapeError: the tiles are not whole images of this grid.
        ConfigError: the spread is too small.
    """
    images, rest = divmod(len(tiles), grid.count)
    if rest or not images:
        raise ShapeError(f"got {len(tiles)} tiles; expected {grid.count} for each image")
    merger = TileMerger(grid, images, spread)
    merger.add(range(len(tiles)), tiles)
    return merger.finish()


def _axis_weights(starts: Sequence[int], side: int, spread: float) -> Tensor:
    """Along one axis, each tile's Gaussian over the sum of all tiles' Gaussians: [len(starts),side]."""
    if not spread >= MIN_SPREAD:
        raise ConfigError(f"merge spread {spread} is too small; use at least {MIN_SPREAD}, such as {SPREAD}")
    offset = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weight = torch.exp(-((offset / (spread * side)) ** 2) / 2)
    total = torch.zeros(starts[-1] + side, dtype=torch.float64)
    for start in starts:
        total[start : start + side] += weight
    return torch.stack([weight / total[start : start + side] for start in starts]).float()
