"""The host's half of a run: from what a SAMPLER is handed to where tiles begin; for sampling and for walks."""

from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from ...adadiffsr_core.sampling.noise import pad_noise
from ...adadiffsr_core.sampling.tiles import TileGrid, pad_canvas
from .conditioning import TiledConditioning
from .denoiser import HostDenoiser, SamplerCall
from .geometry import latent_sizes
from .injection import HostInjection
from .networks import Network, load_beside


class Prepared(NamedTuple):
    """Ready to evaluate tiles.

    Attributes:
        denoiser: the guider.
        lq_latent: padded canvas `[N,C,H,W]`.
        x: the noisy start, likewise.
    """

    denoiser: HostDenoiser
    lq_latent: Tensor
    x: Tensor


def prepare(
    sampler: Any, call: SamplerCall, grid: TileGrid, pfj: Network | None, strength: float, beside: list[Network]
) -> Prepared:
    """Load what takes part, and set the canvases out.

    Args:
        sampler: the host's SAMPLER that is called.
        call: what it was handed.
        grid: where tiles are.
        pfj: feature injection, or None.
        strength: of it.
        beside: other networks that must be on the device.
    """
    model = call.model
    if strength <= 0:
        pfj = None
    load_beside(call.guider, beside if pfj is None else [*beside, pfj])
    padded = replace(
        call,
        latent=pad_canvas(call.latent, grid),
        noise=pad_noise(call.noise, grid, call.seed),
        denoise_mask=None if call.denoise_mask is None else pad_canvas(call.denoise_mask, grid),
    )
    injection = None if pfj is None else HostInjection(pfj.module, model, padded.latent, grid, strength)
    conditioning = TiledConditioning(grid, len(call.latent), latent_sizes(model).factor, injection)
    is_noisiest = sampler.max_denoise(call.guider, call.sigmas)
    x = model.model_sampling.noise_scaling(call.sigmas[0], padded.noise, padded.latent, is_noisiest)
    return Prepared(HostDenoiser(padded, grid, conditioning), padded.latent, x)
