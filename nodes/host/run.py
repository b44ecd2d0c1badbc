"""A whole run with a KSampler's inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview

from ...adadiffsr_core.config import Config, Seed, unknown
from ..settings import RegionSettings
from ..tiles import Tiles
from .denoiser import KEY
from .frames import as_wanted, drop_frame, has_frames
from .geometry import latent_sizes
from .live import say_on_node
from .sampler import FinishedTiles, RegionSampler

# What the host adds to a LATENT for empty ones; they say nothing about a sampled one.
_OF_EMPTY_LATENTS = ("downscale_ratio_spacial", "downscale_ratio_temporal")


@dataclass(frozen=True, kw_only=True)
class KSamplerSettings(Config):
    """The numbers and the schedule of the host's KSampler, as it means them.

    Raises:
        ConfigError: a number is none, or infinite, which the host's ranges let through.
    """

    seed: Seed
    steps: int
    cfg: float = 1.0
    scheduler: str = "simple"
    denoise: float = 1.0


def scheduler_names() -> list[str]:
    """The host's schedules."""
    return list(comfy.samplers.KSampler.SCHEDULERS)


def sample_regions(
    model: Any,
    positive: Any,
    negative: Any,
    latent: Mapping[str, Any],
    settings: RegionSettings,
    base: KSamplerSettings,
) -> Tiles:
    """Sample a LATENT's regions as the host's KSampler would sample the whole.

    Args:
        model, positive, negative, latent: as the host's KSampler takes them; none is changed.
        settings: how regions are sampled.
        base: the run whose steps are spread over regions.

    Raises:
        ConfigError, ShapeError, DenoiserError: see `RegionSampler.sample`.
    """
    if base.scheduler not in scheduler_names():
        raise unknown("scheduler", base.scheduler, scheduler_names())
    patcher = model.clone()
    patcher.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, KEY, _ask_memory_for_tiles(settings)
    )
    given = latent["samples"] if has_frames(patcher.model) else drop_frame(latent["samples"])
    samples = comfy.sample.fix_empty_latent_channels(patcher, given)
    noise = comfy.sample.prepare_noise(samples, base.seed, latent.get("batch_index"))
    schedule = comfy.samplers.KSampler(
        patcher,
        steps=base.steps,
        device=patcher.load_device,
        sampler=settings.config.solver,
        scheduler=base.scheduler,
        denoise=base.denoise,
        model_options=patcher.model_options,
    )
    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(positive, negative)
    guider.set_cfg(base.cfg)
    kept: list[FinishedTiles] = []
    guider.sample(
        noise,
        samples,
        RegionSampler(settings, kept.append),
        schedule.sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(patcher, base.steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=base.seed,
    )
    tiles = kept[0]
    if tiles.report.note:
        say_on_node(tiles.report.note)
    clean = {key: value for key, value in latent.items() if key not in _OF_EMPTY_LATENTS}
    return Tiles(
        estimates=drop_frame(patcher.model.process_latent_out(as_wanted(tiles.estimates, patcher.model))),
        grid=tiles.grid,
        report=tiles.report,
        latent={**clean, "samples": samples},
        mask=tiles.mask,
        factor=latent_sizes(patcher.model).factor,
    )


def _ask_memory_for_tiles(settings: RegionSettings) -> Any:
    """The host reserves memory for x; of a large canvas only tiles are ever on the network's way at once."""

    def prepare(executor: Any, model: Any, noise_shape: Any, *args: Any, **options: Any) -> Any:
        images, channels, *size = noise_shape
        if len(size) == 2 or (len(size) == 3 and size[0] == 1):  # a picture, with or without a frame
            *frame, height, width = size
            grid = settings.config.plan_tiles(height, width, latent_sizes(model.model))
            batch = min(settings.config.tile_batch or 2, images * grid.count)
            noise_shape = [batch, channels, *frame, *grid.tile]
        return executor(model, noise_shape, *args, **options)

    return prepare
