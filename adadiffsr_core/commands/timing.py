"""What a large picture will take, before it is begun; how long, told by a few calls of its networks."""

from time import perf_counter

import torch

from ..settings import SamplingConfig
from ..streaming.bands import Bands
from ..text import in_words

_LATENT_SIDE = 32  # of what is encoded and decoded to time it


def evaluations(config: SamplingConfig) -> tuple[int, int]:
    """How many a tile takes at least and at most: known where all tiles take the same steps, or there is a budget."""
    dtss, steps = config.dtss, config.steps
    if dtss.is_uniform:
        count = -(-steps // dtss.intervals[0]) + (dtss.visit_last and (steps - 1) % dtss.intervals[0] > 0)
        return count, count
    if dtss.rule == "bounded" and dtss.budget > 0:
        count = min(round(dtss.budget), steps)
        return count, count
    return max(1, steps // 8), steps


@torch.inference_mode()
def estimate_seconds(bands: Bands, tiles: int) -> tuple[float, float]:
    """Seconds that a picture takes with the fewest and the most evaluations.

    Args:
        bands: of the picture.
        tiles: that are evaluated.
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
    return rest + tiles * least * evaluation, rest + tiles * most * evaluation


def describe_bands(bands: Bands, top: int, needed: int, tiles: int, *, is_timed: bool) -> str:
    """What a picture in bands takes, in words.

    Args:
        bands: of the picture.
        top: row of the result, above which all was done before.
        needed: bytes of memory.
        tiles: that are evaluated, of all.
        is_timed: whether these networks do the work, so that they can tell how long it takes.
    """
    (height, width), (least, most) = bands.size, evaluations(bands.config)
    done = f", {100 * top / height:.0f} % of it done before" if top else ""
    some = f"{tiles:,}" if tiles == bands.grid.count else f"{tiles:,} of {bands.grid.count:,}"
    spent = f"{tiles * most:,}" if least == most else f"{tiles * least:,} to {tiles * most:,}"
    times = dict.fromkeys(map(_in_time, estimate_seconds(bands, tiles))) if is_timed else {}
    long = f", {' to '.join(times)}" if times else ""
    return (
        f"{width} x {height} px ({width * height / 1e6:,.1f} MP) in bands{done}: about "
        f"{in_words(needed)} of memory; {some} tiles, {spent} evaluations{long}"
    )


def _in_time(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(1, seconds):.0f} s"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
