"""Region-aware sampling as one of the host's SAMPLER objects: it works with any guider.

Source: section 3.3; docs/design.md, "In ComfyUI".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import comfy.samplers
import torch
from torch import Tensor

from ...adadiffsr_core.errors import ConfigError
from ...adadiffsr_core.gain.information import GainEstimator
from ...adadiffsr_core.gain.mmle import MmleEstimator
from ...adadiffsr_core.gain.statistics import LatentStatistics
from ...adadiffsr_core.sampling.canvaswise import sample_canvas
from ...adadiffsr_core.sampling.codebook import Solver, build_codebook
from ...adadiffsr_core.sampling.compute_mask import fit_mask, keep_untouched, tile_levels
from ...adadiffsr_core.sampling.merge import TileMerger
from ...adadiffsr_core.sampling.noise import pad_noise
from ...adadiffsr_core.sampling.report import RunReport
from ...adadiffsr_core.sampling.schedule import Schedule
from ...adadiffsr_core.sampling.tiles import TileGrid, pad_canvas
from ...adadiffsr_core.sampling.tilewise import sample_tiles
from ...adadiffsr_core.sampling.turn import Job
from ..settings import RegionSettings
from .conditioning import TiledConditioning
from .denoiser import HostDenoiser
from .geometry import choose_tile_batch, pixels_per_latent, plan_tiles
from .guards import is_flow, refuse_unsuitable
from .injection import HostInjection
from .networks import load_beside
from .preview import Preview


@dataclass(frozen=True)
class FinishedTiles:
    """What a run leaves for those who want its tiles.

    Attributes:
        estimates: by tile id, `[T,C,h,w]` float32 on the CPU, in the model's scale.
        grid: where tiles are.
        report: where the evaluations went.
        mask: compute mask on the canvas `[M,1,H,W]`, or None.
    """

    estimates: Tensor
    grid: TileGrid
    report: RunReport
    mask: Tensor | None


class RegionSampler(comfy.samplers.Sampler):
    """Samples every region with the steps that it needs.

    Attributes:
        settings: how.
        keep: given the tiles of each run, or None.
    """

    def __init__(self, settings: RegionSettings, keep: Callable[[FinishedTiles], None] | None = None) -> None:
        self.settings, self.keep = settings, keep

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., Any] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Restore a low-quality latent; see the host's `Sampler`.

        Args:
            model_wrap: the guider.
            sigmas: the base schedule, falling to 0.
            extra_args: `model_options` and `seed`.
            callback: told of progress.
            noise: standard normal, `[N,C,H,W]`.
            latent_image: the low-quality latent `[N,C,H,W]`, the paper's o.
            denoise_mask: 1 where to work and 0 what to keep, `[N,C,H,W]`.
            disable_pbar: whether the console stays quiet.

        Returns:
            `[N,C,H,W]`.

        Raises:
            ConfigError: the model, the schedule or a setting does not suit; the message says what to do.
            ShapeError: the latent is not one of pictures, or the compute mask does not fit.
            DenoiserError: the model returned NaN.
        """
        latent = torch.zeros_like(noise) if latent_image is None else latent_image
        refuse_unsuitable(extra_args["model_options"], latent, sigmas)
        run = _Run(self, model_wrap, sigmas, extra_args, noise, latent, denoise_mask)
        preview = Preview(callback, run.latent, run.grid, disable_pbar)
        try:
            merged, tiles = run.sample(preview, self.keep is not None)
        finally:
            preview.close()
        preview.finish(merged)
        if self.keep is not None:
            self.keep(tiles)
        return cast(Tensor, model_wrap.inner_model.model_sampling.inverse_noise_scaling(sigmas[-1], merged))


class _Run:
    """One run on one canvas, prepared."""

    def __init__(
        self,
        sampler: RegionSampler,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        noise: Tensor,
        latent: Tensor,
        denoise_mask: Tensor | None,
    ) -> None:
        settings, model = sampler.settings, guider.inner_model
        self.settings, self.canvas_latent, self.images = settings, latent, len(latent)
        self.seed = extra_args.get("seed") or 0
        self.grid = grid = plan_tiles(
            model, *latent.shape[-2:], settings.tile_size, settings.overlap, settings.tile_fit
        )
        load_beside(guider, [network for network in (settings.mmle, settings.pfj) if network is not None])
        self.latent, padded_noise = pad_canvas(latent, grid), pad_noise(noise, grid, self.seed)
        self.mask = None if settings.compute_mask is None else fit_mask(settings.compute_mask, grid.canvas)
        self.estimator = _choose_estimator(settings, latent)
        sampling = model.model_sampling
        self.timesteps = sampling.timestep(sigmas[:-1]).float().cpu()
        self.codebook = build_codebook(
            sigmas.cpu(), cast(Solver, settings.sampler_name), schedule=Schedule("flow" if is_flow(sampling) else "eps")
        )
        is_noisiest = sampler.max_denoise(guider, sigmas)
        self.x = sampling.noise_scaling(sigmas[0], padded_noise, self.latent, is_noisiest)
        injection = None
        if settings.pfj is not None and settings.pfj_strength:
            injection = HostInjection(settings.pfj.module, model, self.latent, grid, settings.pfj_strength)
        self.denoiser = HostDenoiser(
            guider,
            sigmas,
            extra_args,
            grid,
            TiledConditioning(grid, self.images, pixels_per_latent(model), injection),
            self.latent,
            padded_noise,
            None if denoise_mask is None else pad_canvas(denoise_mask, grid),
        )
        conditionings = max(1, sum(map(len, getattr(guider, "conds", {}).values())))
        self.tile_batch = settings.tile_batch or choose_tile_batch(
            model, latent.device, grid, self.images, conditionings
        )

    def sample(self, preview: Preview, keep: bool) -> tuple[Tensor, FinishedTiles]:
        """The merged canvas, and the tiles if they are to be kept."""
        compute = None if self.mask is None else tile_levels(self.mask, self.grid, self.images)
        job = Job(
            denoiser=self.denoiser,
            codebook=self.codebook,
            grid=self.grid,
            lq_latent=self.latent,
            x=self.x,
            timesteps=self.timesteps,
            dtss=self.settings.dtss,
            estimator=self.estimator,
            compute=compute,
            seed=self.seed,
            tile_batch=self.tile_batch,
            on_step=preview,
        )
        merger, kept = TileMerger(self.grid, self.images), _Kept()

        def sink(ids: Sequence[int], tiles: Tensor) -> None:
            merger.add(ids, tiles)
            if keep:
                kept.add(ids, tiles)

        report = (sample_tiles if self.settings.merge_mode == "final" else sample_canvas)(job, sink)
        merged = merger.finish()
        if self.mask is not None:
            merged = keep_untouched(merged, self.canvas_latent, self.mask.to(merged.device))
        return merged, FinishedTiles(kept.stack() if keep else torch.empty(0), self.grid, report, self.mask)


class _Kept:
    """Finished tiles in the order in which they came."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.tiles: list[Tensor] = []

    def add(self, ids: Sequence[int], tiles: Tensor) -> None:
        """Keep a few, where they are: copying each to the CPU would wait for the device each time."""
        self.ids += ids
        self.tiles.append(tiles.detach())

    def stack(self) -> Tensor:
        """All of them by id, on the CPU."""
        order = torch.tensor(self.ids).argsort()
        return torch.cat(self.tiles).float().cpu()[order]


def _choose_estimator(settings: RegionSettings, latent: Tensor) -> GainEstimator:
    if settings.mmle is None:
        return LatentStatistics()
    channels = settings.mmle.module.config.latent_channels
    if latent.shape[1] != channels:
        raise ConfigError(
            f"this MMLE regressor is for latents of {channels} channels; the model's have {latent.shape[1]}; "
            f"leave the input mmle empty to go by latent statistics"
        )
    return MmleEstimator(settings.mmle.module)
