"""The Gaussian merge: overlapping tiles become one canvas, with no seam where they meet.

Source: section 3.4; the Gaussian is that of Mixture of Diffusers (Barbero Jimenez, 2023) and StableSR
(Wang et al., 2024), centred on both axes.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from .tiles import TileGrid, crop_canvas
from .transfer import send

SPREAD = 0.1  # the variance of 0.01 of both sources
MIN_SPREAD = 0.02  # keeps a tile's edge above exp(-313), far from underflow


class StripBuilder:
    """Merges each row of tiles into a strip; the strips' sum, from the topmost on, is the canvas.

    The sum of weights is known from the grid, as a product of a row and a column profile, and every weight is divided
    by it beforehand: `sum(w * x) / sum(w)`, with w a Gaussian about each tile's centre. So where a tile lies alone its
    weight is exactly 1 and its values come through to the bit, however small the Gaussian is there. Tiles are added in
    one order, whenever they were finished: which run, or which machine, made a strip does not show in its bits.

    Source: section 3.4, decisions D10 and D74.
    """

    def __init__(self, grid: TileGrid, spread: float = SPREAD) -> None:
        """Prepare to merge the tiles of a grid.

        Args:
            grid: where tiles are.
            spread: standard deviation of the Gaussian as a fraction of the tile's side, from 0.02; a greater one
                blends more softly and lets more of a tile's edges through.

        Raises:
            ConfigError: the spread is too small.
        """
        self.grid = grid
        self._row_weights = _axis_weights(grid.tops, grid.tile[0], spread)
        self._col_weights = _axis_weights(grid.lefts, grid.tile[1], spread)

    def merge_weight(self, tile_id: int) -> Tensor:
        """Gaussian weight map of a tile over the sum of all tiles' maps, [1,1,h,w] float32 in (0, 1]."""
        row, col = divmod(tile_id % self.grid.count, self.grid.cols)
        return (self._row_weights[row, :, None] * self._col_weights[col])[None, None]

    def build(self, row: int, tiles: Sequence[Tensor]) -> Tensor:
        """A strip `[C,tile height,padded width]` float32.

        Args:
            row: of the grid.
            tiles: all of its tiles from left to right, each `[C,h,w]`.
        """
        self._go_to(tiles[0].device)
        height, width = self.grid.tile
        strip = tiles[0].new_zeros((tiles[0].shape[0], height, self.grid.padded[1]), dtype=torch.float32)
        for col, (left, tile) in enumerate(zip(self.grid.lefts, tiles, strict=True)):
            weight = self.merge_weight(row * self.grid.cols + col)[0]
            strip[..., left : left + width].addcmul_(tile.float(), weight)
        return strip

    def _go_to(self, device: torch.device) -> None:
        if self._row_weights.device != device:
            self._row_weights = send(self._row_weights, device)
            self._col_weights = send(self._col_weights, device)


def merge_strips(strips: Iterable[Tensor], grid: TileGrid, first_row: int = 0) -> Iterator[Tensor]:
    """Canvas rows `[C,*,padded width]`, as soon as no strip to come reaches them; see `StripBuilder`.

    Args:
        strips: of every row of tiles, from `first_row` on.
        grid: where tiles are.
        first_row: rows of the canvas that tiles above it reach are wrong.
    """
    carried: Tensor | None = None
    ends = [*grid.tops[1:], grid.padded[0]]
    for top, end, strip in zip(grid.tops[first_row:], ends[first_row:], strips, strict=True):
        if carried is not None and carried.shape[-2]:
            rows = carried.shape[-2]
            strip = torch.cat([carried + strip[..., :rows, :], strip[..., rows:, :]], dim=-2)
        yield strip[..., : end - top, :]
        carried = strip[..., end - top :, :]


class TileMerger:
    """Collects the tiles of whole canvases in any order and merges them (see `StripBuilder`).

    Source: section 3.4.
    """

    def __init__(self, grid: TileGrid, images: int = 1, spread: float = SPREAD) -> None:
        """Prepare to merge the tiles of a batch of images.

        Args:
            grid: where tiles are.
            images: N, images in the batch.
            spread: see `StripBuilder`.

        Raises:
            ConfigError: the spread is too small or there are no images.
        """
        if images < 1:
            raise ConfigError(f"cannot merge the tiles of {images} images; there must be at least 1")
        self.grid = grid
        self.images = images
        self._strips = StripBuilder(grid, spread)
        self._missing = set(range(images * grid.count))
        self._held: dict[int, Tensor] = {}
        self._next_row = [0] * images
        self._canvas: Tensor | None = None
        self._dtype = torch.float32

    def add(self, tile_ids: Sequence[int], tiles: Tensor) -> None:
        """Add tiles to the canvas, in float32: each row of them once it and all rows above are there.

        Args:
            tile_ids: ids in [0, images * grid.count), each once over all calls.
            tiles: [len(tile_ids),C,h,w] on any device; the first call decides the canvas's channels, dtype and device.

        Raises:
            ShapeError: the tiles are not of the grid's size or number, or one was added before.
        """
        self._check(tile_ids, tiles)
        canvas = self._canvas_for(tiles)
        self._missing.difference_update(tile_ids)
        self._held.update(zip(tile_ids, tiles, strict=True))
        for image in sorted({tile_id // self.grid.count for tile_id in tile_ids}):
            self._add_rows(canvas, image)

    def _add_rows(self, canvas: Tensor, image: int) -> None:
        """Add the rows of tiles of an image whose turn has come."""
        cols, (height, _) = self.grid.cols, self.grid.tile
        while self._next_row[image] < self.grid.rows:
            row = self._next_row[image]
            first = image * self.grid.count + row * cols
            ids = range(first, first + cols)
            if not all(tile_id in self._held for tile_id in ids):
                return
            strip = self._strips.build(row, [self._held.pop(tile_id) for tile_id in ids])
            top = self.grid.tops[row]
            canvas[image, :, top : top + height].add_(strip)
            self._next_row[image] += 1

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
            self._canvas.zero_()
            self._held, self._next_row = dict(zip(tile_ids, after, strict=True)), [0] * self.images
            for image in range(self.images):
                self._add_rows(self._canvas, image)
            return
        height, width = self.grid.tile
        for tile_id, change in zip(tile_ids, after.float() - before.float(), strict=True):
            image, top, left = self.grid.locate(tile_id)
            place = self._canvas[image, :, top : top + height, left : left + width]
            place.addcmul_(change, self._strips.merge_weight(tile_id)[0])

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
