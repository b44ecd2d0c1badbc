"""Oracles: samplers written plainly from their papers, and denoisers whose answers are known.

Nothing here uses the codebook, the solver or the sampler; that is the point of it.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adadiffsr_core.models.checkpoint import Checkpoint
from adadiffsr_core.models.model import Model
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.mmle import MmleConfig
from adadiffsr_core.nets.pfj import PfjConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.sampling.denoiser import Denoiser
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import TileGrid, crop_tiles

Denoise = Callable[[Tensor, float], Tensor]
Noise = Callable[[int], Tensor]

# --- Reference loops. `sigmas` fall to 0; `noise(i)` is what arrives with `sigmas[i]`; float64 throughout.


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0) -> Tensor:
    """Karras et al. 2022, Algorithm 1 without churn; k-diffusion's sample_euler."""
    for i in range(len(sigmas) - 1):
        d = (x - denoise(x, sigmas[i])) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
    return x


def euler_ancestral(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0) -> Tensor:
    """k-diffusion's get_ancestral_step and sample_euler_ancestral."""
    for i in range(len(sigmas) - 1):
        here, there = sigmas[i], sigmas[i + 1]
        up = min(there, eta * (there**2 * (here**2 - there**2) / here**2) ** 0.5)
        down = (there**2 - up**2) ** 0.5
        d = (x - denoise(x, here)) / here
        x = x + d * (down - here)
        if there > 0:
            x = x + noise(i + 1) * up
    return x


def euler_ancestral_flow(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0
) -> Tensor:
    """The host's ancestral step for rectified flow."""
    for i in range(len(sigmas) - 1):
        here, there = sigmas[i], sigmas[i + 1]
        denoised = denoise(x, here)
        if there == 0:
            return denoised
        down = there * (1 + (there / here - 1) * eta)
        renoise = (there**2 - down**2 * (1 - there) ** 2 / (1 - down) ** 2) ** 0.5
        x = (down / here) * x + (1 - down / here) * denoised
        x = (1 - there) / (1 - down) * x + noise(i + 1) * renoise
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0) -> Tensor:
    """Lu et al. 2022, DPM-Solver++(2M); k-diffusion's sample_dpmpp_2m."""
    old = None
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i])
        if sigmas[i + 1] == 0:
            return denoised
        t, t_next = -math.log(sigmas[i]), -math.log(sigmas[i + 1])
        h, slope = t_next - t, denoised
        if old is not None:
            r = (t + math.log(sigmas[i - 1])) / h
            slope = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = sigmas[i + 1] / sigmas[i] * x - math.expm1(-h) * slope
        old = denoised
    return x


def ddpm(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0) -> Tensor:
    """Ho et al. 2020, Eq. 6 and 7, on z = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise."""
    for i in range(len(sigmas) - 1):
        bar, bar_next = (1 / (1 + sigma**2) for sigma in sigmas[i : i + 2])
        z, alpha = x * bar**0.5, bar / bar_next
        mean = (bar_next**0.5 * (1 - alpha) * denoise(x, sigmas[i]) + alpha**0.5 * (1 - bar_next) * z) / (1 - bar)
        variance = (1 - bar_next) / (1 - bar) * (1 - alpha)
        z = mean + variance**0.5 * noise(i + 1)
        x = z / bar_next**0.5
    return x


def ddim(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0) -> Tensor:
    """Song et al. 2020, Eq. 12 and 16, on z = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) noise."""
    for i in range(len(sigmas) - 1):
        bar, bar_next = (1 / (1 + sigma**2) for sigma in sigmas[i : i + 2])
        z, denoised = x * bar**0.5, denoise(x, sigmas[i])
        eps = (z - bar**0.5 * denoised) / (1 - bar) ** 0.5
        fresh = eta * ((1 - bar_next) / (1 - bar)) ** 0.5 * (1 - bar / bar_next) ** 0.5
        z = bar_next**0.5 * denoised + (1 - bar_next - fresh**2) ** 0.5 * eps + fresh * noise(i + 1)
        x = z / bar_next**0.5
    return x


REFERENCES = {"ddpm": ddpm, "ddim": ddim, "euler": euler, "euler_ancestral": euler_ancestral, "dpmpp_2m": dpmpp_2m}


def jump_indices(steps: int, interval: int) -> list[int]:
    """Base indices that equal intervals visit: 0, K, 2K, ..., N."""
    return [*range(0, steps, interval), steps]


def hold(denoise: Denoise, interval: int) -> Denoise:
    """Asks `denoise` at every `interval`-th call only and repeats its answer in between."""
    calls, held = 0, torch.empty(0)

    def holding(x: Tensor, sigma: float) -> Tensor:
        nonlocal calls, held
        if calls % interval == 0:
            held = denoise(x, sigma)
        calls += 1
        return held

    return holding


# --- Denoisers.


class PointMass:
    """The data are one latent: `denoised = mu` wherever one is."""

    boundaries: Sequence[float] = ()

    def __init__(self, mu: Tensor, grid: TileGrid) -> None:
        self.mu, self.grid = mu, grid

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        return crop_tiles(self.mu, self.grid, tiles)


class Mixture:
    """The exact posterior mean where each value is N(mean - spread, variance) or N(mean + spread, variance).

    With `spread` 0 the data are Gaussian, everything is linear and the probability flow has a closed form.
    """

    boundaries: Sequence[float] = ()

    def __init__(
        self, schedule: Schedule, mean: Tensor, grid: TileGrid, *, variance: float = 0.3, spread: float = 0.7
    ) -> None:
        self.schedule, self.mean, self.grid, self.variance, self.spread = schedule, mean, grid, variance, spread

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1)
        return self.posterior(x, crop_tiles(self.mean, self.grid, tiles), level, self.schedule.picture_scale(level))

    def posterior(self, x: Tensor, mean: Tensor, sigma: Tensor, scale: Tensor) -> Tensor:
        total = scale**2 * self.variance + sigma**2
        centres = (mean - self.spread, mean + self.spread)
        low, high = (centre + scale * self.variance / total * (x - scale * centre) for centre in centres)
        share = torch.sigmoid(2 * self.spread * scale * (x - scale * mean) / total)
        return torch.lerp(low, high, share)

    def on_tile(self, tile: int) -> Denoise:
        """The same for one tile in float64, for the reference loops."""
        mean = crop_tiles(self.mean, self.grid, [tile]).double()

        def denoise(x: Tensor, sigma: float) -> Tensor:
            level = torch.tensor(sigma, dtype=torch.float64)
            return self.posterior(x, mean, level, self.schedule.picture_scale(level))

        return denoise


class Counting:
    """Writes down what another denoiser was asked.

    Attributes:
        calls: (tile ids, sigmas) of each call.
        spent: evaluations by tile id.
    """

    def __init__(self, inner: Denoiser, boundaries: Sequence[float] = ()) -> None:
        self.inner, self.boundaries = inner, boundaries
        self.calls: list[tuple[list[int], list[float]]] = []
        self.spent: Counter[int] = Counter()

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        assert len(x) == len(sigma) == len(tiles)
        self.calls.append((list(tiles), sigma.tolist()))
        self.spent.update(tiles)
        return self.inner(x, sigma, tiles, gain)


# --- Scripted gains.


def mark_tiles(grid: TileGrid, images: int = 1, channels: int = 4) -> Tensor:
    """A canvas that says which tile is which: the id stands at the top left of each tile, in the first channel."""
    canvas = torch.zeros(images, channels, *grid.padded)
    for tile_id in range(images * grid.count):
        image, top, left = grid.locate(tile_id)
        canvas[image, 0, top, left] = tile_id
    return canvas


class Scripted:
    """A gain estimator that reads each tile's qualities from a script, on a canvas of `mark_tiles`.

    Args:
        scripts: per tile, the (fr, nr) of its evaluations; the last repeats.
    """

    def __init__(self, scripts: Sequence[Sequence[tuple[float, float]]]) -> None:
        self.scripts, self.asked = scripts, Counter[int]()

    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        rows = []
        for tile in lq_latent[:, 0, 0, 0].long().tolist():
            script = self.scripts[tile]
            rows.append(script[min(self.asked[tile], len(script) - 1)])
            self.asked[tile] += 1
        return torch.tensor(rows)


def write_script(story: str) -> list[tuple[float, float]]:
    """Qualities that make a tile's evaluations after the first Growing, Stable, or eXhausted, letter by letter."""
    moves = {"G": (0.05, 0.05), "S": (0.05, 0.0), "X": (0.05, -0.05)}
    fr, nr = 0.1, 0.5
    script = [(fr, nr)]
    for letter in story:
        fr, nr = fr + moves[letter][0], nr + moves[letter][1]
        script.append((fr, nr))
    return script


# `moves` over 4 base steps are still above this threshold.
SCRIPTED = DtssConfig(nr_from=0.0)

# --- Networks with weights that do something.


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a seeded random value, the zero-initialised last layers' too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            is_norm = parameter.ndim == 1 and bool((parameter == 1).all())
            parameter.copy_(values * 0.1 + is_norm if parameter.ndim == 1 else values * parameter[0].numel() ** -0.5)
    return net.eval().requires_grad_(False)


TINY_UNET = UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=1)
TINY_AUTOENCODER = AutoencoderConfig(channels=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
TINY_MMLE = MmleConfig(widths=(8,), hidden=6)
TINY_PFJ = PfjConfig(channels=TINY_UNET.widths, width=8)


def tiny_model(schedule: Schedule | None = None) -> Model:
    """A whole model with random weights: 8 px per latent px, tiles of any even side, and every scale known."""
    unet, autoencoder = UNet(TINY_UNET), Autoencoder(TINY_AUTOENCODER)
    randomise(unet, 1)
    randomise(autoencoder, 2)
    return Model(unet, autoencoder, schedule or Schedule(), scales=Scales(1e-3, 1e5))


def to_checkpoint(unet: UNet, autoencoder: Autoencoder, schedule: Schedule | None = None) -> Checkpoint:
    """What a file of such a model holds."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in autoencoder.state_dict().items()}
    config = {
        "unet": unet.config.to_dict(),
        "autoencoder": autoencoder.config.to_dict(),
        "schedule": {"prediction": (schedule or Schedule()).prediction},
    }
    return Checkpoint("ldm", config, tensors)
