"""The compute mask: where the artist wants work done, from "leave untouched" to "every step".

Source: decision D6. Levels: 0 is never evaluated, 0.5 automatic, 1 every step; in
between, the ladder of intervals loses its small or its large rungs.
"""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import unknown
from ..errors import ShapeError
from .tiles import TileGrid, crop_tiles, pad_canvas

# What a mask's levels are: as they are, or a painter's, who wants more work where it is painted, or work only there.
MaskMeans = Literal["more", "only", "levels"]

_ROUNDING = 1e-3  # beyond [0, 1]: what blurs and resizing leave there is no mistake
FEATHER_PX = 8  # a latent pixel's worth: wide enough that no edge shows, narrow enough to work where it was asked for


def check_means(means: str) -> None:
    """See that a mask has a meaning.

    Raises:
        ConfigError: it is unknown.
    """
    if means not in get_args(MaskMeans):
        raise unknown("mask_means", means, get_args(MaskMeans))


def mask_to_levels(mask: Tensor, means: MaskMeans) -> Tensor:
    """Levels `[M,h,w]` float32 in [0,1]: of "more" 0.5 to 1, so that nothing is left out, of "only" 0 to 0.5.

    Args:
        mask: of any number of axes, the last two its own, as the host's nodes take one. What lies outside [0,1] by no
            more than rounding is brought back.
        means: what it says.

    Raises:
        ShapeError: it has no pixels, or a value that is no level.
    """
    if mask.ndim < 2 or 0 in mask.shape:
        raise ShapeError(f"a compute mask must be [N or 1,height,width], got {tuple(mask.shape)}")
    mask = mask.float().reshape(-1, *mask.shape[-2:])
    within = mask.clamp(0, 1)
    mask = torch.where((mask - within).abs() <= _ROUNDING, within, mask)
    check_levels(mask)
    return {"more": 0.5 + mask / 2, "only": mask / 2, "levels": mask}[means]


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
    if mask.ndim != 4 or mask.shape[1] != 1 or tuple(mask.shape[-2:]) != grid.canvas:
        raise ShapeError(f"a compute mask must be {[images, 1, *grid.canvas]}, or one for all, got {list(mask.shape)}")
    if len(mask) not in (1, images):
        raise ShapeError(f"a compute mask must be one for all images or one for each, got {len(mask)} for {images}")
    levels = mask.float().expand(images, -1, -1, -1)
    check_levels(levels)
    tiles = crop_tiles(pad_canvas(levels, grid), grid, range(images * grid.count))
    return tiles.amax(dim=(1, 2, 3)).cpu()


def keep_untouched(restored: Tensor, lq_latent: Tensor, mask: Tensor) -> Tensor:
    """Put the input back wherever the mask is 0; all `[N,*,h,w]`."""
    return torch.where(mask > 0, restored, lq_latent)


def fit_pixels(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask of any size at a picture's: a pixel takes the level at its centre, or the mean of all that fall on it.

    So a pixel of a picture larger than its mask is black where its centre is, and one of a smaller picture only where
    everything is that it stands for.

    Args:
        mask: `[M,h,w]` or `[M,1,h,w]` in [0,1].
        size: (height, width) of the picture, px.

    Returns:
        `[M,1,*size]` float32.

    Raises:
        ShapeError: the mask has another shape, or a value that is no level.
    """
    smaller = (min(mask.shape[-2], size[0]), min(mask.shape[-1], size[1]))
    mean = fit_mask(mask, smaller)
    check_levels(mean)
    return F.interpolate(mean, size=size, mode="nearest-exact")


def pool_latents(mask: Tensor, factor: int) -> Tensor:
    """The mean level of each latent pixel: `[M,1,H,W]` to `[M,1,ceil(H/factor),ceil(W/factor)]`."""
    beyond = [-side % factor for side in mask.shape[-2:]]
    return F.avg_pool2d(F.pad(mask, (0, beyond[1], 0, beyond[0]), mode="replicate"), factor)


def find_needed(mask: Tensor, grid: TileGrid, images: int, reach: int) -> Tensor:
    """Latents that are looked at: those of tiles that are evaluated, and those that decoding the others' edge needs.

    Args:
        mask, grid, images: see `tile_levels`.
        reach: how far about a latent pixel its decoded pixels look, latent px.

    Returns:
        `[h,w]` bool on the CPU, of all images together.

    Raises:
        ShapeError: the mask's shape or values do not fit.
    """
    height, width = grid.tile
    levels = tile_levels(mask, grid, images)
    needed = _spread((mask > 0).cpu().float(), reach).amax(dim=(0, 1)) > 0
    for tile_id in torch.nonzero(levels > 0).flatten().tolist():
        _, top, left = grid.locate(tile_id)
        needed[top : top + height, left : left + width] = True
    return needed


def keep_enlarged(restored: Tensor, enlarged: Tensor, touched: Tensor, factor: int, above: int = 0) -> Tensor:
    """Put the enlarged picture back under latents that nobody touches.

    Args:
        restored, enlarged: `[N,C,H,W]`.
        touched: latents whose level is above 0, bool `[h,w]`, that cover these pixels.
        factor: px per latent px.
        above: of these, how many rows of pixels lie above.
    """
    is_touched = touched.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    height, width = restored.shape[-2:]
    return torch.where(is_touched[above : above + height, :width], restored, enlarged)


def keep_pixels(restored: Tensor, original: Tensor, mask: Tensor, above: int = 0) -> Tensor:
    """Put the original back wherever the mask is 0, to the bit, and lead over to the restored picture outside.

    Source: decision D40.

    Args:
        restored, original: `[N,C,H,W]`, a picture or some of its rows.
        mask: `[N or 1,1,H,W]`; of some rows with `FEATHER_PX` more above and below, or as many as there are.
        above: how many of the mask's rows lie above.

    Returns:
        `[N,C,H,W]`; more than `FEATHER_PX` away from black it is `restored`, to the bit.
    """
    is_black = mask <= 0
    if not bool(is_black.any()):
        return restored
    half = FEATHER_PX // 2
    share = 1 - _spread(is_black.to(restored), half)
    for kernel, padding in (((1, 2 * half + 1), (0, half)), ((2 * half + 1, 1), (half, 0))):
        share = F.avg_pool2d(share, kernel, stride=1, padding=padding, count_include_pad=False)
    rows = slice(above, above + restored.shape[-2])
    return torch.where(is_black[..., rows, :], original, torch.lerp(original, restored, share[..., rows, :]))


def _spread(flags: Tensor, reach: int) -> Tensor:
    """The greatest value within `reach` of each place, along both axes; `[N,1,h,w]`."""
    across = F.max_pool2d(flags, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.max_pool2d(across, (2 * reach + 1, 1), stride=1, padding=(reach, 0))


def check_levels(levels: Tensor) -> None:
    """Refuse values that are no levels.

    Raises:
        ShapeError: there are some.
    """
    if not bool(((levels >= 0) & (levels <= 1)).all()):
        least, most = float(levels.min()), float(levels.max())
        raise ShapeError(
            f"a compute mask must lie between 0 and 1, got values from {least:.3g} to {most:.3g}; clamp it, or divide "
            "levels by 255"
        )
