"""Our own UNet as the sampler's denoiser."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..nets.fusion import Residual
from ..nets.pfj import Pfj
from ..nets.unet import UNet
from ..sampling.schedule import Schedule
from ..sampling.tiles import TileGrid, crop_tiles
from .injection import FeatureInjector


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
