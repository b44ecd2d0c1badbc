"""What a host's model says about sizes: pixels per latent pixel, the tile it was trained on, what fits in memory."""

from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management

from ...adadiffsr_core.sampling.config import LatentSizes
from ...adadiffsr_core.sampling.tiles import TileGrid

# Latent px: on the way up the host's UNets resize to the skip connection, and no transformer patch is larger.
MULTIPLE = 4
LARGEST_BATCH = 8


def latent_sizes(model: Any) -> LatentSizes:
    """What a host's BaseModel says about sizes; its tiles were 512, 768 or 1,024 image px."""
    factor = int(getattr(model.latent_format, "spacial_downscale_ratio", 8))
    # Our own models say what they were trained on and need.
    pixels, multiple = getattr(model, "trained_px", 1024), getattr(model, "tile_multiple", MULTIPLE)
    if isinstance(model.latent_format, comfy.latent_formats.SD15):
        is_sd2 = model.model_config.unet_config.get("context_dim") == 1024
        is_768 = is_sd2 and model.model_type == comfy.model_base.ModelType.V_PREDICTION
        pixels = 768 if is_768 else 512
    return LatentSizes(factor, int(multiple), int(pixels // factor))


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
