"""From a photograph to a sharper, larger one: the few calls that all three ways in share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError
from .gain.choose import choose_estimator
from .models.model import Model
from .models.unet_denoiser import UNetDenoiser
from .photo.back_projection import back_project, projects
from .photo.checks import check_image, check_mask, check_range
from .photo.colour import match_colour
from .photo.enlarging import enlarge, reduce
from .photo.scales import Scales, Size, base_size, plan_work
from .photo.transparency import fill_hidden
from .sampling.codebook import build_codebook
from .sampling.compute_mask import find_needed, fit_pixels, keep_enlarged, keep_pixels, pool_latents
from .sampling.config import LatentSizes
from .sampling.noise import field_noise, pad_noise
from .sampling.report import RunLog, RunReport
from .sampling.run import Sampled, Start, run
from .sampling.tiles import TileGrid, pad_canvas
from .sampling.turn import Progress
from .settings import SamplingConfig
from .text import quoted


@dataclass(frozen=True)
class Upscaled:
    """What `upscale` returns.

    Attributes:
        image: `[N,3,H,W]` float32 in [0,1], on the CPU.
        report: where the evaluations went.
        grid: where the tiles were; latent px are `factor` px of the size that was worked at.
        factor: px per latent px, at that size.
        work_size: (height, width) that was worked at, px: the image's, unless the model does not know the scale.
        note: one sentence if it does not, else empty.
    """

    image: Tensor
    report: RunReport
    grid: TileGrid
    factor: int
    work_size: Size
    note: str = ""

    @property
    def latent_px(self) -> tuple[float, float]:
        """How many px of the image a latent pixel is high and wide."""
        height, width = self.image.shape[-2:]
        return self.factor * height / self.work_size[0], self.factor * width / self.work_size[1]


@torch.inference_mode()
def sample_latent(
    model: Model,
    lq_latent: Tensor,
    config: SamplingConfig,
    *,
    mask: Tensor | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Sampled:
    """Restore a low-quality latent.

    Args:
        model: the networks.
        lq_latent: `[N,C,h,w]` float32.
        config: how to sample.
        mask: compute mask `[N or 1,1,h,w]` in [0,1]: 0 leaves untouched, 0.5 is automatic, 1 is every step.
        on_step: told after each turn.
    """
    height, width = lq_latent.shape[-2:]
    grid = config.plan_tiles(height, width, model.sizes)
    noise = field_noise(lq_latent.shape, config.seed)
    return run(start_run(model, lq_latent, noise, grid, config), config, mask, on_step)


def start_run(model: Model, lq_latent: Tensor, noise: Tensor, grid: TileGrid, config: SamplingConfig) -> Start:
    """Where the restoration of a latent begins.

    Args:
        model: the networks.
        lq_latent: `[N,C,*grid.canvas]` float32, on the model's device.
        noise: of the same shape, on the CPU.
        grid: where tiles are.
        config: how to sample.
    """
    sigmas = model.schedule.build_sigmas(config.steps, config.spacing, config.denoise)
    padded = pad_canvas(lq_latent, grid)
    noise = pad_noise(noise, grid, config.seed).to(lq_latent.device)
    return Start(
        denoiser=UNetDenoiser(model.unet, model.schedule, padded, grid, model.pfj, config.pfj_strength),
        codebook=build_codebook(sigmas, config.solver, config.eta, model.schedule),
        timesteps=model.schedule.sigma_to_timestep(sigmas[:-1]),
        grid=grid,
        lq_latent=padded,
        x=model.schedule.start(padded, noise, float(sigmas[0])),
        estimator=model.estimator or choose_estimator(model.mmle, lq_latent.shape[1]),
        seed=config.seed,
    )


class Restorer(Protocol):
    """Whoever has the networks.

    Attributes:
        scales: how many times larger they were trained to make pictures.
        sizes: what tiles go by.
    """

    @property
    def scales(self) -> Scales:
        """See above."""
        ...

    @property
    def sizes(self) -> LatentSizes:
        """See above."""
        ...

    def restore(
        self, enlarged: Tensor, config: SamplingConfig, mask: Tensor | None, on_step: Callable[[Progress], None]
    ) -> Sampled:
        """Encode, sample and decode.

        Args:
            enlarged: picture `[N,3,H,W]` in [0,1], of any size.
            config: how to sample.
            mask: compute mask `[N or 1,1,*,*]` of any size, or None.
            on_step: told after each turn.

        Returns:
            What `run` does, with the picture `[N,3,H,W]`, on the CPU, in the place of the latent.
        """
        ...


def upscale(
    model: Model,
    image: Tensor,
    size: Size,
    config: SamplingConfig,
    *,
    mask: Tensor | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Upscaled:
    """Upscale a batch of images of one size by a model of ours; see `upscale_by`.

    Raises:
        ShapeError: see `upscale_by`; or the images are not in [0,1].
        ConfigError: see `upscale_by`; or model or config is none.
    """
    for value, kind, source in ((model, Model, "load_model()"), (config, SamplingConfig, 'PRESETS["everyday"]')):
        if not isinstance(value, kind):
            raise ConfigError(f"upscale takes a {kind.__name__}, such as {source}, got {quoted(value, 80)}")
    check_image(image, size)
    check_range(image)
    return upscale_by(OwnRestorer(model), image, size, config, mask=mask, on_step=on_step)


def upscale_by(
    restorer: Restorer,
    image: Tensor,
    size: Size,
    config: SamplingConfig,
    *,
    mask: Tensor | None = None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Upscaled:
    """Upscale a batch of images of one size.

    A scale that the model does not know is worked at one that it does, and reduced (decision D41). Where the mask is
    black the image comes back as `enlarge` makes it, to the bit; what is wholly black costs nothing (decision D40).

    Args:
        restorer: has the networks.
        image: `[N,3,h,w]` in [0,1], or `[N,4,h,w]` with opacity, whose hidden colours are seen by nobody (decision
            D42).
        size: (height, width) of the result, px.
        config: how to sample.
        mask: compute mask of the result's shape or any other, `[N or 1,1,*,*]` in [0,1]; it is resized.
        on_step: told after each turn.

    Raises:
        ShapeError: the image has another shape, no pixels, or holds NaN; the mask does not fit it.
        ConfigError: a setting or the size is impossible.
    """
    size = check_image(image, size)
    check_mask(image, mask)
    image = image.detach()
    source: Size = (image.shape[-2], image.shape[-1])
    work = plan_work(source, size, restorer.scales)
    image, alpha = image[:, :3], image[:, 3:]
    visible = fill_hidden(image, alpha) if alpha.shape[1] else image
    original = None
    if mask is not None:
        # Not what is visible of it: what nobody asked to change keeps even its hidden colours.
        original = enlarge(image if size == source else visible, size).cpu()
        if not bool(mask.any()):
            return _leave(restorer, original, config)
    photo = enlarge(visible, base_size(source, size))
    start = enlarge(photo, work.size)
    restored, report, grid = restorer.restore(start, config, mask, on_step)
    # Matched before it is reduced: colours are then held to the photo over fewer of its pixels.
    matched = match_colour(restored, start, config.colour).clamp(0, 1)
    is_projected = projects(work.size, size, config.colour)
    result = back_project(matched, photo.cpu(), size) if is_projected else reduce(matched, size)
    if mask is not None and original is not None:
        result = keep_pixels(result, original, fit_pixels(mask.cpu(), size))
    return Upscaled(result, report, grid, restorer.sizes.factor, work.size, work.note)


def compare_tiles(result: Upscaled, truth: Tensor) -> list[float]:
    """PSNR of each tile of a result, dB, infinite where it is the same; by tile id.

    Args:
        result: of `upscale`.
        truth: what it is compared with, such as the picture by all steps, of the same shape.
    """
    error = (result.image - truth).square().mean(dim=1)
    high, wide = result.latent_px
    values = []
    for tile in result.report.tiles:
        rows = slice(round(tile.top * high), round((tile.top + tile.height) * high))
        columns = slice(round(tile.left * wide), round((tile.left + tile.width) * wide))
        values.append(float(-10 * error[tile.image, rows, columns].mean().log10()))
    return values


def plan_tiles(sizes: LatentSizes, size: Size, config: SamplingConfig) -> TileGrid:
    """Tiles for a picture that is worked at this size, (height, width) in px."""
    height, width = (-(-side // sizes.factor) for side in size)
    return config.plan_tiles(height, width, sizes)


def _leave(restorer: Restorer, original: Tensor, config: SamplingConfig) -> Upscaled:
    """The result of a mask that is black all over."""
    size: Size = (original.shape[-2], original.shape[-1])
    grid = plan_tiles(restorer.sizes, size, config)
    log = RunLog(grid, len(original), config.steps)
    report = log.close(config.tile_batch, gain_threshold=config.dtss.gain_threshold)
    return Upscaled(original, report, grid, restorer.sizes.factor, size)


def pad_to_latents(image: Tensor, factor: int) -> Tensor:
    """A picture `[N,C,H,W]` with its lower and right edge repeated up to whole latent px."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % factor, 0, -height % factor), mode="replicate")


@dataclass(frozen=True)
class OwnRestorer:
    """A model of our own architecture as a `Restorer`.

    Attributes:
        model: the networks.
    """

    model: Model

    @property
    def scales(self) -> Scales:
        """See `Restorer`."""
        return self.model.scales

    @property
    def sizes(self) -> LatentSizes:
        """See `Restorer`."""
        return self.model.sizes

    def restore(
        self, enlarged: Tensor, config: SamplingConfig, mask: Tensor | None, on_step: Callable[[Progress], None]
    ) -> Sampled:
        """See `Restorer`; what the mask leaves alone and no network looks at stays as it is."""
        model, c = self.model, self.model.autoencoder.config
        height, width = enlarged.shape[-2:]
        levels = touched = needed = None
        if mask is not None:
            levels = pool_latents(fit_pixels(mask, (height, width)), c.factor)
            grid = plan_tiles(model.sizes, (height, width), config)
            needed = find_needed(levels, grid, len(enlarged), c.decoder_halo)
            touched = (levels > 0).any(dim=0)[0].cpu()
            levels = levels.to(model.device)
        lq_latent = model.encode(pad_to_latents(enlarged, c.factor), needed)
        sampled = sample_latent(model, lq_latent, config, mask=levels, on_step=on_step)
        restored = model.decode(sampled.latent, touched, "cpu")[..., :height, :width]
        if touched is not None:
            restored = keep_enlarged(restored, enlarged.cpu(), touched, c.factor)
        return sampled._replace(latent=restored)
