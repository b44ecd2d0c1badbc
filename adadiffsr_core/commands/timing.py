"""How long a large picture will take, told by a few calls of its networks."""

from time import perf_counter

import torch

from ..settings import SamplingConfig
from ..streaming.bands import Bands

_LATENT_SIDE = 32  # of what is encoded and decoded to time it


def evaluations(config: SamplingConfig) -> tuple[int, int]:
    """How many a tile takes at least and at most: known where all tiles take the same steps, or there is a budget."""
    dtss, steps = config.dtss, config.steps
    if dtss.is_uniform:
        count = -(-steps // dtss.intervals[0]) + (dtss.visit_last and (steps - 1) % dtss.intervals[0] > 0)
        return count, count
    if dtss.rule == "bounded" and dtss.budget > 0:
        return round(dtss.budget), round(dtss.budget)
    return max(1, steps // 8), steps


@torch.inference_mode()
def estimate_seconds(bands: Bands) -> tuple[float, float]:
    """Seconds that a picture takes with the fewest and the most evaluations.

    Args:
        bands: of the picture.
    """
    model, grid = bands.model, bands.grid
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
    least, most = evaluations(bands.config)
    return rest + grid.count * least * evaluation, rest + grid.count * most * evaluation


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
