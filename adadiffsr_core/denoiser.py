"""The network as the sampler sees it, whoever hosts it, and calls to it that survive a full device."""

import logging
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from .injection import FeatureInjector
from .memory import is_out_of_memory
from .nets.fusion import Residual
from .nets.pfj import Pfj
from .nets.unet import UNet
from .schedule import Schedule
from .tiles import TileGrid, crop_tiles

logger = logging.getLogger(__name__)


class Denoiser(Protocol):
    """A network that estimates x0.

    Attributes:
        boundaries: sigmas at which its conditioning changes. No batch straddles one.
    """

    boundaries: Sequence[float]

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """Estimate x0.

        Args:
            x: noisy latents `[B,C,h,w]`.
            sigma: noise level of each, `[B]`.
            tiles: id of the tile that each is.
            gain: `[B,2]` information gain at each tile's evaluation before, for feature injection, or None.

        Returns:
            `[B,C,h,w]`.
        """
        ...


class UNetDenoiser:
    """Our own UNet, conditioned on the low-quality latent by concatenation.

    Args:
        unet: on the device and in the dtype it is to run in.
        schedule: that it was trained on.
        lq_latent: padded canvas `[N,C,H,W]`.
        grid: where tiles are.
        pfj: feature injection for a UNet of these widths, or None.
        pfj_strength: 0 is as without it.
    """

    boundaries: Sequence[float] = ()

    def __init__(
        self,
        unet: UNet,
        schedule: Schedule,
        lq_latent: Tensor,
        grid: TileGrid,
        pfj: Pfj | None = None,
        pfj_strength: float = 1.0,
    ) -> None:
        self.unet, self.schedule, self.lq_latent, self.grid = unet, schedule, lq_latent, grid
        self.inject = FeatureInjector(pfj, lq_latent, grid, pfj_strength) if pfj and pfj_strength else None

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """See `Denoiser`; gain plays no part without feature injection."""
        condition = crop_tiles(self.lq_latent, self.grid, tiles)
        inputs = torch.cat([self.schedule.scale_input(x, sigma, condition), condition], dim=1)
        dtype = cast(torch.dtype, self.unet.time_embed[0].weight.dtype)
        inputs = inputs.to(dtype).contiguous(memory_format=torch.channels_last)
        residuals = None if self.inject is None else [_to(part, dtype) for part in self.inject(tiles, gain)]
        output = self.unet(inputs, self.schedule.sigma_to_timestep(sigma), residuals)
        return self.schedule.output_to_denoised(output.to(x.dtype), x, sigma, condition)


def _to(residual: Residual, dtype: torch.dtype) -> Residual:
    return residual.to(dtype) if isinstance(residual, Tensor) else residual


class ElasticDenoiser:
    """Calls a denoiser, in halves once memory has run out, the device's or the processor's.

    Attributes:
        tile_batch: the largest batch to ask for; halved at each failure and never raised again.
        calls: sizes of the batches that went through.
    """

    def __init__(self, denoiser: Denoiser, tile_batch: int) -> None:
        self.denoiser, self.tile_batch = denoiser, tile_batch
        self.calls: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """As `Denoiser`; any batch size.

        Raises:
            RuntimeError, MemoryError: a single tile does not fit (see `is_out_of_memory`).
        """
        done: list[Tensor] = []
        start = 0
        while start < len(tiles):
            part = slice(start, start + self.tile_batch)
            try:
                done.append(self.denoiser(x[part], sigma[part], tiles[part], None if gain is None else gain[part]))
            except (RuntimeError, MemoryError) as error:
                if self.tile_batch == 1 or not is_out_of_memory(error):
                    raise
                self.tile_batch = max(1, min(self.tile_batch, len(tiles)) // 2)
                logger.warning("out of memory: going on with %d tiles at a time", self.tile_batch)
                continue
            self.calls.append(len(done[-1]))
            start += len(done[-1])
        return done[0] if len(done) == 1 else torch.cat(done)
