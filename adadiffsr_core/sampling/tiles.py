"""Where tiles are: overlapping rectangles, in latent pixels, that cover a canvas and are denoised alone.

Source: section 3.4, "slice the input LR images into multiple overlapping regions with the fixed
resolution as the pre-trained DMs".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import check_multiple
from ..errors import ConfigError, ShapeError


@dataclass(frozen=True)
class TileGrid:
    """Every combination of `tops` and `lefts` is a tile; tiles are numbered in row-major order.

    In a batch of images, tile `t` of image `n` has the id `n * grid.count + t`.

    Attributes:
        canvas: (height, width) of the latent, latent px.
        tile: (height, width) of every tile, latent px.
        tops: first canvas row of each row of tiles, ascending from 0.
        lefts: first canvas column of each column of tiles, ascending from 0.
        above: rows of a larger canvas that lie above this one, if it is a part (see `cut_rows`).
    """

    canvas: tuple[int, int]
    tile: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    above: int = 0

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) the tiles cover: the canvas, or a tile's side where the canvas is smaller."""
        return max(self.canvas[0], self.tile[0]), max(self.canvas[1], self.tile[1])

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return len(self.tops)

    @property
    def cols(self) -> int:
        """Columns of tiles."""
        return len(self.lefts)

    @property
    def count(self) -> int:
        """Tiles on one canvas."""
        return self.rows * self.cols

    @property
    def boxes(self) -> tuple[tuple[int, int, int, int], ...]:
        """(top, left, bottom, right) of every tile on the padded canvas, bottom and right exclusive."""
        height, width = self.tile
        return tuple((top, left, top + height, left + width) for top in self.tops for left in self.lefts)

    def locate(self, tile_id: int) -> tuple[int, int, int]:
        """(image, top, left) of the tile with this id, counted over the batch of images."""
        image, tile = divmod(tile_id, self.count)
        row, col = divmod(tile, self.cols)
        return image, self.tops[row], self.lefts[col]

    def locate_in_whole(self, tile_id: int) -> tuple[int, int, int]:
        """As `locate`, on the canvas that this one is a part of: what noise and reports go by."""
        image, top, left = self.locate(tile_id)
        return image, self.above + top, left

    def cut_rows(self, first: int, last: int) -> "TileGrid":
        """The part of the canvas that the tile rows `first` to `last - 1` cover, with their tiles."""
        top, bottom = self.tops[first], min(self.canvas[0], self.tops[last - 1] + self.tile[0])
        tops = tuple(row - top for row in self.tops[first:last])
        return TileGrid((bottom - top, self.canvas[1]), self.tile, tops, self.lefts, self.above + top)


def build_grid(height: int, width: int, tile: int, overlap: int, multiple: int = 1) -> TileGrid:
    """Square tiles of the trained size, `tile - overlap` apart; the last row and column shift inwards.

    Where the canvas is shorter than a tile, so is the tile, up to what the network needs (decision D9).

    Source: section 3.4; the inward shift is StableSR's.

    Args:
        height: of the canvas, latent px, from 1.
        width: of the canvas, latent px, from 1.
        tile: side of a tile, latent px.
        overlap: least overlap of neighbours, latent px, in [0, tile).
        multiple: what the network needs a tile's side to be a multiple of, latent px.

    Raises:
        ConfigError: a size is below 1, the overlap leaves no room to advance, or the tile is not such a multiple.
    """
    _check(height, width, tile, overlap, multiple)
    sides = _shrink(height, tile, multiple), _shrink(width, tile, multiple)
    tops, lefts = (
        (*range(0, max(length, side) - side, tile - overlap), max(length, side) - side)
        for length, side in zip((height, width), sides, strict=True)
    )
    return TileGrid((height, width), sides, tops, lefts)


def fit_grid(height: int, width: int, tile: int, overlap: int, *, multiple: int, max_stretch: float = 1.25) -> TileGrid:
    """Tiles of 1 to `max_stretch` times the trained size, chosen to evaluate the least area and spread evenly.

    Source: decision D8. The area is (tile height x rows) x (tile width x columns), so each axis is fitted
    alone; ties go to the smaller tile, and short axes shrink it as in `build_grid`. A canvas of 128x128 with tile 64,
    overlap 8 and multiple 4 gets 2x2 tiles of 68, 1.13 times its area; the fixed grid has 3x3 tiles of 64, 2.25 times.

    Args:
        height: of the canvas, latent px, from 1.
        width: of the canvas, latent px, from 1.
        tile: side the network was trained on, latent px.
        overlap: least overlap of neighbours, latent px, in [0, tile).
        multiple: what the network needs a tile's side to be a multiple of, latent px. The host's SD UNets take 4:
            on the way up they resize to the size of the skip connection.
        max_stretch: greatest side over the trained one, from 1.

    Raises:
        ConfigError: as `build_grid`, or `max_stretch` is below 1 or not finite.
    """
    _check(height, width, tile, overlap, multiple)
    if not 1 <= max_stretch < math.inf:
        raise ConfigError(f"tiles cannot be stretched by {max_stretch}; use a factor of at least 1, such as 1.25")
    sides = range(tile, int(tile * max_stretch) + 1, multiple)
    (tile_height, tops), (tile_width, lefts) = (
        _fit_axis(length, sides, overlap) if length > tile else (_shrink(length, tile, multiple), (0,))
        for length in (height, width)
    )
    return TileGrid((height, width), (tile_height, tile_width), tops, lefts)


def _shrink(length: int, tile: int, multiple: int) -> int:
    """Side of a tile on an axis of the canvas: no more than the network needs to cover it.

    Twice its multiple at least: of a single value for each channel, at its coarsest level, norms can make nothing.
    """
    return min(tile, max(2, -(-length // multiple)) * multiple)


def _check(height: int, width: int, tile: int, overlap: int, multiple: int) -> None:
    if min(height, width) < 1:
        raise ConfigError(f"the latent is {width}x{height}; it must be at least 1x1")
    if tile < 1 or multiple < 1:
        raise ConfigError(f"tile size {tile} and its multiple {multiple} must be at least 1 latent px")
    if not 0 <= overlap < tile:
        raise ConfigError(f"overlap {overlap} does not fit tiles of {tile} latent px; use 0 to {tile - 1}")
    check_multiple("tile size", tile, multiple, "latent px")


def _fit_axis(length: int, sides: Sequence[int], overlap: int) -> tuple[int, tuple[int, ...]]:
    """The best side for one axis and where its tiles start; `min` keeps the first, smallest, of equals."""
    gaps = {side: max(0, -((side - length) // (side - overlap))) for side in sides}  # ceil: tiles after the first
    side = min(sides, key=lambda side: side * (gaps[side] + 1))
    room = max(length - side, 0)
    return side, tuple(index * room // max(gaps[side], 1) for index in range(gaps[side] + 1))


def pad_canvas(canvas: Tensor, grid: TileGrid) -> Tensor:
    """Reflect the canvas to the right and downwards until a tile fits; the canvas itself where one does.

    Source: decision D9. Reflection goes to and fro as often as needed, so any size from 1x1 works; positions
    on the canvas and on the padded canvas are the same.

    Args:
        canvas: [N,C,H,W] with (H, W) = `grid.canvas`.
        grid: where tiles are.

    Returns:
        [N,C,*grid.padded].

    Raises:
        ShapeError: the canvas is not the grid's.
    """
    _check_size(canvas, grid.canvas)
    for dim, (length, padded) in enumerate(zip(grid.canvas, grid.padded, strict=True), start=2):
        if padded > length:
            canvas = canvas.index_select(dim, _reflected(length, padded, canvas.device))
    return canvas


def crop_canvas(padded: Tensor, grid: TileGrid) -> Tensor:
    """Undo `pad_canvas`: [N,C,*grid.padded] -> [N,C,*grid.canvas], contiguous.

    Raises:
        ShapeError: the size is not the grid's padded canvas.
    """
    _check_size(padded, grid.padded)
    return padded[..., : grid.canvas[0], : grid.canvas[1]].contiguous()


def crop_tiles(canvas: Tensor, grid: TileGrid, tile_ids: Sequence[int]) -> Tensor:
    """Copy tiles out of a batch of canvases.

    The ids are host integers and the crops are slices: nothing waits for the device.

    Args:
        canvas: [N,C,*grid.padded], from `pad_canvas`.
        grid: where tiles are.
        tile_ids: at least one id in [0, N * grid.count), in any order.

    Returns:
        [len(tile_ids),C,h,w].

    Raises:
        ShapeError: the canvas is not padded as the grid asks, or a tile is not on it.
    """
    _check_size(canvas, grid.padded)
    if not tile_ids or min(tile_ids) < 0 or max(tile_ids) >= len(canvas) * grid.count:
        raise ShapeError(f"tiles {list(tile_ids)} are not among the {len(canvas) * grid.count} tiles of this batch")
    height, width = grid.tile
    places = map(grid.locate, tile_ids)
    return torch.stack([canvas[image, :, top : top + height, left : left + width] for image, top, left in places])


def evaluated_area(grid: TileGrid) -> float:
    """Area of all tiles over the canvas's area: what one step on every tile costs; 1 has no overlap or padding."""
    return grid.count * grid.tile[0] * grid.tile[1] / (grid.canvas[0] * grid.canvas[1])


def _reflected(length: int, padded: int, device: torch.device) -> Tensor:
    """0 1 2 1 0 1 2 ... for length 3: a triangle wave; all zeros for length 1."""
    period = max(2 * (length - 1), 1)
    phase = torch.arange(padded, device=device) % period
    return torch.minimum(phase, period - phase).clamp_(max=length - 1)


def _check_size(canvas: Tensor, size: tuple[int, int]) -> None:
    if canvas.ndim != 4 or tuple(canvas.shape[-2:]) != size:
        raise ShapeError(f"got a latent of shape {tuple(canvas.shape)}; this grid needs [N, C, {size[0]}, {size[1]}]")
