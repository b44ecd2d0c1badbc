"""The compute mask: where the artist wants work done, from "leave untouched" to "every step".

Source: DESIGN section 4, decision D6. Levels: 0 is never evaluated, 0.5 automatic, 1 every step; in
between, the ladder of intervals loses its small or its large rungs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ShapeError
from .tiles import TileGrid, crop_tiles, pad_canvas


def fit_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask of any size, averaged to that of a canvas.

    Args:
        mask: `[M,h,w]` or `[M,1,h,w]` in [0,1].
        size: (height, width) of the canvas, latent px.

    Returns:
        `[M,1,*size]` float32.

    Raises:
        ShapeError: the mask has another shape.
    """
    mask = mask[:, None] if mask.ndim == 3 else mask
    if mask.ndim != 4 or mask.shape[1] != 1 or 0 in mask.shape:
        raise ShapeError(f"a compute mask must be [N or 1,1,height,width], got {tuple(mask.shape)}")
    return F.interpolate(mask.float(), size=size, mode="area")


def tile_levels(mask: Tensor, grid: TileGrid, images: int) -> Tensor:
    """The level of each tile: the highest it contains, so that no pixel gets less than was asked for.

    Args:
        mask: `[N or 1,1,h,w]` in [0,1], of the canvas's size in latent px.
        grid: where tiles are.
        images: N.

    Returns:
        `[N * grid.count]` float32 on the CPU.

    Raises:
        ShapeError: the mask's shape or values do not fit.
    """
    if mask.ndim != 4 or mask.shape[1] != 1 or len(mask) not in (1, images) or tuple(mask.shape[-2:]) != grid.canvas:
        raise ShapeError(
            f"a compute mask must be [{images} or 1,1,{grid.canvas[0]},{grid.canvas[1]}], got {mask.shape}"
        )
    levels = mask.float().expand(images, -1, -1, -1)
    if not bool(((levels >= 0) & (levels <= 1)).all()):
        raise ShapeError("a compute mask must lie between 0 and 1")
    tiles = crop_tiles(pad_canvas(levels, grid), grid, range(images * grid.count))
    return tiles.amax(dim=(1, 2, 3)).cpu()


def keep_untouched(restored: Tensor, lq_latent: Tensor, mask: Tensor) -> Tensor:
    """Put the input back wherever the mask is 0; all `[N,*,h,w]`."""
    return torch.where(mask > 0, restored, lq_latent)
