"""The host's guider as the core's `Denoiser`: CFG, ControlNet, LoRA, masks and other packs' patches keep working."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ...adadiffsr_core.sampling.tiles import TileGrid, crop_tiles
from .boundaries import find_boundaries
from .conditioning import TiledCall, TiledConditioning
from .memory import name_out_of_memory

KEY = "adadiffsr"
_WRAPPER = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH


@dataclass(frozen=True, kw_only=True)
class SamplerCall:
    """What the host hands to a SAMPLER; see its `Sampler.sample`.

    Attributes:
        guider: in the midst of sampling.
        sigmas: the base schedule.
        extra_args: `model_options` and `seed`.
        noise, latent: `[N,C,H,W]`.
        denoise_mask: 1 where to work and 0 what to keep, `[N,C,H,W]`, or None.
    """

    guider: Any
    sigmas: Tensor
    extra_args: dict[str, Any]
    noise: Tensor
    latent: Tensor
    denoise_mask: Tensor | None = None

    @property
    def model(self) -> Any:
        """The host's BaseModel."""
        return self.guider.inner_model

    @property
    def seed(self) -> int:
        """Of all noise."""
        return self.extra_args.get("seed") or 0


class HostDenoiser:
    """Evaluates tiles through a guider.

    Args:
        call: of the SAMPLER, its canvases padded for the grid; with a mask, what that protects is the latent.
        grid: where tiles are.
        conditioning: what crops the guider's conditionings.

    Attributes:
        boundaries: sigmas at which the conditioning changes.
    """

    def __init__(self, call: SamplerCall, grid: TileGrid, conditioning: TiledConditioning) -> None:
        self.call, self.grid, self.conditioning = call, grid, conditioning
        self.model_options = comfy.model_patcher.create_model_options_clone(call.extra_args["model_options"])
        self.boundaries: Sequence[float] = find_boundaries(call.guider, self.model_options)
        mask_function = self.model_options.get("denoise_mask_function")
        if mask_function is not None:
            self.model_options["denoise_mask_function"] = _by_tile(mask_function)

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """See `adadiffsr_core.sampling.denoiser.Denoiser`."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        call = self.call
        options = comfy.model_patcher.create_model_options_clone(self.model_options)
        cropped = TiledCall(self.conditioning, tiles, gain)
        comfy.patcher_extension.add_wrapper_with_key(_WRAPPER, KEY, cropped, options, is_model_options=True)
        # The host's own inpainting about the guider; without a mask it passes everything through.
        inpaint = comfy.samplers.KSamplerX0Inpaint(call.guider, call.sigmas)
        mask = None
        if call.denoise_mask is not None:
            inpaint.latent_image, inpaint.noise, mask = (
                crop_tiles(canvas, self.grid, tiles) for canvas in (call.latent, call.noise, call.denoise_mask)
            )
        with name_out_of_memory():
            denoised: Tensor = inpaint(x, sigma, mask, model_options=options, seed=call.extra_args.get("seed"))
        return denoised


def _by_tile(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A mask function that looks at the first sigma only, such as Differential Diffusion's, once for every tile."""

    def each(sigma: Tensor, mask: Tensor, **options: Any) -> Tensor:
        return torch.cat([function(sigma[i : i + 1], mask[i : i + 1], **options) for i in range(len(sigma))])

    return each
