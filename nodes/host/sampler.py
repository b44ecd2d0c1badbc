"""Region-aware sampling as one of the host's SAMPLER objects: it works with any guider.

Source: section 3.3; docs/design.md, "In ComfyUI".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import comfy.samplers
import torch
from torch import Tensor

from ...adadiffsr_core.gain.choose import choose_estimator
from ...adadiffsr_core.sampling.codebook import build_codebook
from ...adadiffsr_core.sampling.compute_mask import fit_mask
from ...adadiffsr_core.sampling.report import RunReport
from ...adadiffsr_core.sampling.run import Start, run
from ...adadiffsr_core.sampling.schedule import Schedule
from ...adadiffsr_core.sampling.tiles import TileGrid
from ...adadiffsr_core.sampling.turn import Progress
from ..settings import RegionSettings
from .denoiser import SamplerCall
from .devices import list_devices
from .frames import add_frame, drop_frame, is_picture, show_framed
from .geometry import choose_tile_batch, latent_sizes
from .guards import is_flow, refuse_foreign, refuse_unsuitable
from .live import LiveMap
from .networks import Companions, companions
from .prepare import prepare
from .preview import Preview
from .schedule import drop_repeats


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

    def sample(  # noqa: PLR0913  the host calls it so
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
            sigmas: the base schedule, falling to 0; of neighbours that are equal one counts.
            extra_args: `model_options` and `seed`.
            callback: told of progress.
            noise: standard normal, `[N,C,H,W]`; for models that were made for video it and all latents have one frame,
                `[N,C,1,H,W]`.
            latent_image: the low-quality latent `[N,C,H,W]`, the paper's o.
            denoise_mask: 1 where to work and 0 what to keep, `[N,C,H,W]`.
            disable_pbar: whether the console stays quiet.

        Returns:
            As `noise`.

        Raises:
            ConfigError: the model, the schedule or a setting does not suit; the message says what to do.
            ShapeError: the latent is not one of pictures, or the compute mask does not fit.
            DenoiserError: the model returned NaN.
        """
        latent = torch.zeros_like(noise) if latent_image is None else latent_image
        if is_picture(latent):
            show = None if callback is None else show_framed(callback)
            mask = None if denoise_mask is None else drop_frame(denoise_mask)
            flat = drop_frame(noise), drop_frame(latent), mask
            return add_frame(self.sample(model_wrap, sigmas, extra_args, show, *flat, disable_pbar))
        refuse_unsuitable(extra_args["model_options"], latent, sigmas)
        sigmas = drop_repeats(sigmas)
        call = SamplerCall(
            guider=model_wrap,
            sigmas=sigmas,
            extra_args=extra_args,
            noise=noise,
            latent=latent,
            denoise_mask=denoise_mask,
        )
        refuse_foreign(latent, denoise_mask, call.model)
        start, settings = self._start(call), self.settings
        mask = None if settings.levels is None else fit_mask(settings.levels, start.grid.canvas)
        preview, kept = Preview(callback, start.lq_latent, start.grid, disable_pbar), _Kept()
        live = LiveMap(start, mask, latent_sizes(call.model).factor)

        def tell(progress: Progress) -> None:
            live(progress)
            preview(progress)

        config = replace(settings.config, tile_batch=settings.config.tile_batch or _choose_tile_batch(call, start.grid))
        try:
            merged, report, grid = run(start, config, mask, tell, None if self.keep is None else kept.add)
        finally:
            preview.close()
        preview.finish(merged)
        live.finish(report)
        if self.keep is not None:
            self.keep(FinishedTiles(kept.stack(), grid, report, mask))
        return cast(Tensor, call.model.model_sampling.inverse_noise_scaling(sigmas[-1], merged))

    def _start(self, call: SamplerCall) -> Start:
        settings, config, sampling = self.settings, self.settings.config, call.model.model_sampling
        own = companions(call.guider.model_patcher) if settings.own_networks else Companions()
        mmle, pfj = settings.mmle or own.mmle, settings.pfj or own.pfj
        height, width = call.latent.shape[-2:]
        grid = config.plan_tiles(height, width, latent_sizes(call.model))
        estimator = choose_estimator(None if mmle is None else mmle.module, call.latent.shape[1])
        ready = prepare(self, call, grid, pfj, config.pfj_strength, [] if mmle is None else [mmle])
        schedule = Schedule("flow" if is_flow(sampling) else "eps")
        return Start(
            denoiser=ready.denoiser,
            codebook=build_codebook(call.sigmas.cpu(), config.solver, schedule=schedule),
            timesteps=sampling.timestep(call.sigmas[:-1]).float().cpu(),
            grid=grid,
            lq_latent=ready.lq_latent,
            x=ready.x,
            estimator=estimator,
            seed=call.seed,
        )


def _choose_tile_batch(call: SamplerCall, grid: TileGrid) -> int:
    conditionings = max(1, sum(map(len, getattr(call.guider, "conds", {}).values())))
    devices = list_devices(call.extra_args["model_options"], call.latent.device)
    images = len(call.latent)
    return len(devices) * min(choose_tile_batch(call.model, each, grid, images, conditionings) for each in devices)


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
