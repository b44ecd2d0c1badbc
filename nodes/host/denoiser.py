"""The host's guider as the core's `Denoiser`: CFG, ControlNet, LoRA, masks and other packs' patches keep working."""

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch
from torch import Tensor

from ...adadiffsr_core.sampling.tiles import TileGrid, crop_tiles
from .boundaries import find_boundaries
from .conditioning import TiledConditioning
from .memory import name_out_of_memory

KEY = "adadiffsr"
_WRAPPER = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH


class HostDenoiser:
    """Evaluates tiles through a guider.

    Attributes:
        boundaries: sigmas at which the conditioning changes.
    """

    def __init__(
        self,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        grid: TileGrid,
        conditioning: TiledConditioning,
        latent: Tensor,
        noise: Tensor,
        denoise_mask: Tensor | None,
    ) -> None:
        """Prepare to evaluate tiles.

        Args:
            guider: in the midst of sampling.
            sigmas: the base schedule.
            extra_args: what the host hands to samplers: model_options and seed.
            grid: where tiles are.
            conditioning: what crops the guider's conditionings.
            latent, noise, denoise_mask: padded canvases `[N,C,H,W]`; with a mask, what it protects is `latent`.
        """
        self.guider, self.sigmas, self.grid, self.conditioning = guider, sigmas, grid, conditioning
        self.latent, self.noise, self.mask = latent, noise, denoise_mask
        self.seed = extra_args.get("seed")
        self.model_options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
        self.boundaries: Sequence[float] = find_boundaries(guider, self.model_options)
        comfy.patcher_extension.add_wrapper_with_key(
            _WRAPPER, KEY, conditioning, self.model_options, is_model_options=True
        )
        mask_function = self.model_options.get("denoise_mask_function")
        if mask_function is not None:
            self.model_options["denoise_mask_function"] = _by_tile(mask_function)

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int], gain: Tensor | None) -> Tensor:
        """See `adadiffsr_core.sampling.denoiser.Denoiser`."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.conditioning.tiles, self.conditioning.gain = tiles, gain
        # The host's own inpainting about the guider; without a mask it passes everything through.
        inpaint = comfy.samplers.KSamplerX0Inpaint(self.guider, self.sigmas)
        mask = None
        if self.mask is not None:
            inpaint.latent_image, inpaint.noise, mask = (
                crop_tiles(canvas, self.grid, tiles) for canvas in (self.latent, self.noise, self.mask)
            )
        with name_out_of_memory():
            denoised: Tensor = inpaint(x, sigma, mask, model_options=self.model_options, seed=self.seed)
        return denoised


def _by_tile(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A mask function that looks at the first sigma only, such as Differential Diffusion's, once for every tile."""

    def each(sigma: Tensor, mask: Tensor, **options: Any) -> Tensor:
        return torch.cat([function(sigma[i : i + 1], mask[i : i + 1], **options) for i in range(len(sigma))])

    return each
