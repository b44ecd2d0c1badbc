"""From a photograph to a sharper, larger one: the few calls that all three ways in share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas_sampler import sample_canvas
from .codebook import Solver, build_codebook
from .colour import ColourMatch, match_colour
from .compute_mask import keep_untouched, tile_levels
from .config import Config
from .controller import DtssConfig
from .denoiser import UNetDenoiser
from .errors import ConfigError, ShapeError
from .gain import GainEstimator, LatentStatistics
from .merge import TileMerger
from .mmle_estimator import MmleEstimator
from .nets.autoencoder import Autoencoder
from .nets.mmle import Mmle
from .nets.pfj import Pfj
from .nets.unet import UNet
from .networks import check_fit, check_latents, open_networks, read_schedule
from .noise import field_noise, pad_noise
from .report import RunReport
from .sampler import sample_tiles
from .schedule import Schedule, Spacing
from .tiles import TileGrid, build_grid, fit_grid, pad_canvas
from .turn import Job, Progress

MergeMode = Literal["final", "every_step"]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(Config):
    """How a picture is sampled.

    Attributes:
        steps: base steps N.
        solver, eta, spacing, denoise: see `build_codebook` and `Schedule.build_sigmas`.
        dtss: the controller's numbers.
        merge: tiles merged once at the end (the paper), or composed at every base step.
        tile: side of the tiles the model was trained on, latent px.
        overlap: least overlap of tiles, latent px.
        tile_fit: choose the tile size that evaluates the least area.
        tile_batch: tiles in one call of the network.
        seed: of all noise.
        colour: how colours are matched to the input.
        pfj_strength: of feature injection, where the model has it. More of the embedded model's is crisper and strays
            further from the input.
    """

    steps: int = 24
    solver: Solver = "euler"
    eta: float | None = None
    spacing: Spacing = "uniform"
    denoise: float = 1.0
    dtss: DtssConfig = field(default_factory=DtssConfig)
    merge: MergeMode = "final"
    tile: int = 64
    overlap: int = 8
    tile_fit: bool = True
    tile_batch: int = 8
    seed: int = 0
    colour: ColourMatch = "wavelet"
    pfj_strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tile_batch < 1:
            raise ConfigError(f"tile_batch must be at least 1, got {self.tile_batch}")
        if not 0 <= self.pfj_strength < float("inf"):
            raise ConfigError(f"pfj_strength must be a number from 0 up, got {self.pfj_strength}")

    def uniform(self, interval: int) -> "SamplingConfig":
        """The same without adaptivity: every jump covers `interval` base steps and no tile stops early."""
        return replace(self, dtss=replace(self.dtss, intervals=(interval,) * 4, early_exit=False, first_jump=0.0))


PRESETS: dict[str, SamplingConfig] = {
    # Section 4.1: intervals of 5, 10, 15, 20 of 1,000 timesteps are 1 to 4 of 200 base steps.
    "paper": SamplingConfig(steps=200, solver="ddpm", tile_fit=False),
    # Its numbers: decisions D17, D28 and D57.
    "everyday": SamplingConfig(
        solver="dpmpp_2m", dtss=DtssConfig(gain_threshold=3e-4, early_exit=False, first_jump=0.5), pfj_strength=0.25
    ),
}


@dataclass(frozen=True)
class Model:
    """Networks that are ready to run.

    Attributes:
        unet, autoencoder: on one device, in one dtype.
        schedule: that the UNet was trained on.
        mmle, pfj: regressor of gain and feature injection for this UNet, or None.

    Raises:
        ConfigError: UNet and autoencoder do not fit, or one of the two is for other latents or another UNet.
    """

    unet: UNet
    autoencoder: Autoencoder
    schedule: Schedule
    mmle: Mmle | None = None
    pfj: Pfj | None = None

    def __post_init__(self) -> None:
        check_latents(self.unet, self.autoencoder)
        check_fit(self.unet, self.mmle, self.pfj)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.unet.parameters()).dtype

    @torch.inference_mode()
    def encode(self, image: Tensor) -> Tensor:
        """Image `[N,3,H,W]` in [0,1] to latents `[N,C,H/8,W/8]` float32."""
        return self.autoencoder.encode(_to_network(image, self)).float()

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> Tensor:
        """Latents to an image `[N,3,8h,8w]` float32, clamped to [0,1]."""
        return self.autoencoder.decode(_to_network(latent, self)).float().clamp_(0, 1)


def _to_network(tensor: Tensor, model: Model) -> Tensor:
    return tensor.to(model.device, model.dtype).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Upscaled:
    """What `upscale` returns.

    Attributes:
        image: `[N,3,H,W]` float32 in [0,1], on the CPU.
        report: where the evaluations went.
        grid: where the tiles were; latent px are `factor` image px.
        factor: image px per latent px.
    """

    image: Tensor
    report: RunReport
    grid: TileGrid
    factor: int


def embedded_weights() -> Path:
    """The file of the model that comes with the package."""
    # Beside this file, since inside ComfyUI the package goes by another name.
    return Path(__file__).parent / "weights" / "embedded.safetensors"


def load_model(
    path: Path | None = None, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """Load a model of our own architecture; None is the embedded one.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    networks = open_networks(path or embedded_weights(), "ldm", "bundle")
    schedule = read_schedule(networks.checkpoint)
    unet, autoencoder = networks.build(UNet, device, dtype), networks.build(Autoencoder, device, dtype)
    mmle = networks.build(Mmle, device, dtype) if networks.has(Mmle) else None
    pfj = networks.build(Pfj, device, dtype) if networks.has(Pfj) else None
    return Model(unet, autoencoder, schedule, mmle, pfj)


def plan_grid(height: int, width: int, config: SamplingConfig, multiple: int) -> TileGrid:
    """Tiles for a latent canvas of this size (latent px)."""
    if config.tile_fit:
        return fit_grid(height, width, config.tile, config.overlap, multiple=multiple)
    return build_grid(height, width, config.tile, config.overlap, multiple)


@torch.inference_mode()
def sample_latent(
    model: Model,
    lq_latent: Tensor,
    config: SamplingConfig,
    *,
    mask: Tensor | None = None,
    estimator: GainEstimator | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Tensor, RunReport, TileGrid]:
    """Restore a low-quality latent.

    Args:
        model: the networks.
        lq_latent: `[N,C,h,w]` float32.
        config: how to sample.
        mask: compute mask `[N or 1,1,h,w]` in [0,1]: 0 leaves untouched, 0.5 is automatic, 1 is every step.
        estimator: of gain; None takes the model's MMLE, or `LatentStatistics` if it has none.
        on_step: told after each turn.

    Returns:
        Latents `[N,C,h,w]`, the report, and the grid.
    """
    images, _, height, width = lq_latent.shape
    grid = plan_grid(height, width, config, model.unet.config.multiple)
    sigmas = model.schedule.build_sigmas(config.steps, config.spacing, config.denoise)
    padded = pad_canvas(lq_latent, grid)
    noise = pad_noise(field_noise(lq_latent.shape, config.seed), grid, config.seed).to(lq_latent.device)
    job = Job(
        denoiser=UNetDenoiser(model.unet, model.schedule, padded, grid, model.pfj, config.pfj_strength),
        timesteps=model.schedule.sigma_to_timestep(sigmas[:-1]),
        codebook=build_codebook(sigmas, config.solver, config.eta, model.schedule),
        grid=grid,
        lq_latent=padded,
        x=model.schedule.start(padded, noise, float(sigmas[0])),
        dtss=config.dtss,
        estimator=estimator or (MmleEstimator(model.mmle) if model.mmle else LatentStatistics()),
        compute=None if mask is None else tile_levels(mask, grid, images),
        seed=config.seed,
        tile_batch=config.tile_batch,
        on_step=on_step,
    )
    merger = TileMerger(grid, images)
    report = (sample_tiles if config.merge == "final" else sample_canvas)(job, merger.add)
    restored = merger.finish()
    return (restored if mask is None else keep_untouched(restored, lq_latent, mask)), report, grid


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, and without moire where a side gets smaller: `[N,C,h,w]` to float32 `[N,C,*size]` in [0,1]."""
    is_smaller = size[0] < image.shape[-2] or size[1] < image.shape[-1]
    return F.interpolate(image.float(), size=size, mode="bicubic", antialias=is_smaller).clamp_(0, 1)


def upscale(
    model: Model,
    image: Tensor,
    size: tuple[int, int],
    config: SamplingConfig,
    *,
    mask: Tensor | None = None,
    estimator: GainEstimator | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Upscaled:
    """Upscale a batch of images of one size.

    Args:
        model: the networks.
        image: `[N,3,h,w]` in [0,1].
        size: (height, width) of the result, px.
        config: how to sample.
        mask: compute mask of the result's shape or any other, `[N or 1,1,*,*]` in [0,1]; it is resized.
        estimator: see `sample_latent`.
        on_step: told after each turn.

    Raises:
        ShapeError: the image is not `[N,3,h,w]`, has no pixels, or holds NaN.
        ConfigError: a setting or the size is impossible.
    """
    _check_image(image, size)
    if mask is not None and (mask.ndim != 4 or mask.shape[1] != 1):
        raise ShapeError(f"a compute mask must be [N or 1,1,height,width], got {tuple(mask.shape)}")
    factor = model.autoencoder.config.factor
    enlarged = enlarge(image, size)
    height, width = (-(-side // factor) for side in size)
    bottom, right = height * factor - size[0], width * factor - size[1]
    lq_latent = model.encode(F.pad(enlarged, (0, right, 0, bottom), mode="replicate"))
    small_mask = None if mask is None else F.interpolate(mask.float(), size=(height, width), mode="area")
    on_device = None if small_mask is None else small_mask.to(model.device)
    latent, report, grid = sample_latent(model, lq_latent, config, mask=on_device, estimator=estimator, on_step=on_step)
    restored = model.decode(latent)[..., : size[0], : size[1]].cpu()
    return Upscaled(match_colour(restored, enlarged, config.colour).clamp(0, 1), report, grid, factor)


def _check_image(image: Tensor, size: tuple[int, int]) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ShapeError(f"an image must be [N,3,height,width] with at least one pixel, got {tuple(image.shape)}")
    if min(size) < 1:
        raise ConfigError(f"the result must be at least 1x1 px, got {size[1]}x{size[0]}")
    if not bool(torch.isfinite(image).all()):
        raise ShapeError("the image holds NaN or infinity; repair it first")
