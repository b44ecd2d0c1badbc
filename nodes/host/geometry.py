"""What a host's model says about sizes: pixels per latent pixel, the tile it was trained on, what fits in memory."""

from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management

from ...adadiffsr_core.errors import ConfigError
from ...adadiffsr_core.sampling.tiles import TileGrid, build_grid, fit_grid

MULTIPLE = (
    4  # latent px: on the way up the host's UNets resize to the skip connection, and no transformer patch is larger
)
LARGEST_BATCH = 8


def pixels_per_latent(model: Any) -> int:
    """Image px per latent px of a host's BaseModel."""
    return int(getattr(model.latent_format, "spacial_downscale_ratio", 8))


def trained_side(model: Any) -> int:
    """Side of the tiles that a host's BaseModel was trained on, latent px: 512, 768 or 1,024 image px."""
    pixels = getattr(model, "trained_px", 1024)  # our own models say it
    if isinstance(model.latent_format, comfy.latent_formats.SD15):
        is_sd2 = model.model_config.unet_config.get("context_dim") == 1024
        is_768 = is_sd2 and model.model_type == comfy.model_base.ModelType.V_PREDICTION
        pixels = 768 if is_768 else 512
    return int(pixels // pixels_per_latent(model))


def tile_multiple(model: Any) -> int:
    """What a tile's side must be a multiple of for a host's BaseModel, latent px."""
    return int(getattr(model, "tile_multiple", MULTIPLE))  # our own models say it


def plan_tiles(model: Any, height: int, width: int, tile_px: int, overlap_px: int, tile_fit: bool) -> TileGrid:
    """Where tiles are on a latent canvas.

    Args:
        model: the host's BaseModel.
        height, width: of the canvas, latent px.
        tile_px: side of a tile, image px; 0 is what the model was trained on.
        overlap_px: least overlap of neighbours, image px.
        tile_fit: let tiles grow up to a quarter where that evaluates less area.

    Raises:
        ConfigError: a size is no multiple of what the model needs, or the overlap leaves no room.
    """
    factor, multiple = pixels_per_latent(model), tile_multiple(model)
    check_multiple("tile_size", tile_px, factor * multiple)
    check_multiple("overlap", overlap_px, factor)
    tile, overlap = tile_px // factor or trained_side(model), overlap_px // factor
    if not 0 <= overlap < tile:
        raise ConfigError(f"an overlap of {overlap_px} px does not fit tiles of {tile * factor} px; use less")
    if tile_fit:
        return fit_grid(height, width, tile, overlap, multiple=multiple)
    return build_grid(height, width, tile, overlap, multiple)


def check_multiple(name: str, pixels: int, multiple: int) -> None:
    """Refuse a size that is no multiple of what the model needs.

    Raises:
        ConfigError: with the nearest sizes that are.
    """
    if pixels < 0 or pixels % multiple:
        below = pixels - pixels % multiple
        use = f"{below} or {below + multiple}" if below > 0 else f"{multiple}"
        raise ConfigError(f"{name} {pixels} px is not a multiple of {multiple}; use {use}")


def choose_tile_batch(model: Any, device: Any, grid: TileGrid, images: int, conditionings: int) -> int:
    """How many tiles to evaluate in one call: as many as the device's free memory holds, 1 to `LARGEST_BATCH`.

    Args:
        model: the host's BaseModel, already on the device.
        device: the torch device.
        grid: where tiles are.
        images: on the canvas.
        conditionings: evaluated together, such as 2 with CFG.
    """
    free = comfy.model_management.get_free_memory(device)
    channels = model.latent_format.latent_channels
    for batch in range(min(LARGEST_BATCH, images * grid.count), 1, -1):
        # The host's own rule for whether a batch fits.
        if model.memory_required([batch * conditionings, channels, *grid.tile]) * 1.5 < free:
            return batch
    return 1
