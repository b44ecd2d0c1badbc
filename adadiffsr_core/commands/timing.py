"""How long a large picture will take, told by a few calls of its networks."""

from time import perf_counter

import torch

from ..streaming.bands import Bands

_LATENT_SIDE = 32  # of what is encoded and decoded to time it


@torch.inference_mode()
def estimate_seconds(bands: Bands) -> tuple[float, float]:
    """Seconds that a picture takes if its tiles need an eighth of all steps, and if they need them all.

    Args:
        bands: of the picture.
    """
    model, grid, steps = bands.model, bands.grid, bands.config.steps
    channels = model.autoencoder.config.z_channels
    tile = model.to_network(torch.zeros(2, 2 * channels, *grid.tile))
    latent = torch.zeros(1, channels, _LATENT_SIDE, _LATENT_SIDE)
    timesteps = torch.zeros(2, device=model.device)
    for _ in range(2):  # the first call finds its kernels
        began = perf_counter()
        model.unet(tile, timesteps)
        _wait(model.device)
        evaluation = (perf_counter() - began) / 2
    began = perf_counter()
    model.encode(model.decode(latent))
    _wait(model.device)
    rest = (perf_counter() - began) * grid.canvas[0] * grid.canvas[1] / _LATENT_SIDE**2
    least = max(1, steps // 8) if not bands.config.dtss.is_uniform else steps
    return rest + grid.count * least * evaluation, rest + grid.count * steps * evaluation


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
