"""PFJ in the host: residuals for the UNet's encoder, as a T2I-Adapter hands them over, chained to the user's own.

Source: section 3.4, Eq. 3; decision D20.
"""

from collections.abc import Sequence
from typing import Any, cast

import comfy.controlnet
from torch import Tensor

from ...adadiffsr_core.errors import ConfigError
from ...adadiffsr_core.models.injection import FeatureInjector
from ...adadiffsr_core.nets.pfj import Pfj, encoder_slots
from ...adadiffsr_core.sampling.tiles import TileGrid, crop_tiles
from .areas import Box


class HostInjection:
    """Chains a PFJ before the controls of each call.

    Raises:
        ConfigError: the PFJ is for a UNet of other widths, for other latents, or needs what the host does not give.
    """

    def __init__(self, pfj: Pfj, model: Any, lq_latent: Tensor, grid: TileGrid, strength: float) -> None:
        self.pfj, self.lq_latent, self.grid, self.strength = pfj, lq_latent, grid, strength
        if not pfj.config.sees_gain:
            # The host adds what is known beforehand; the rivals of PFJ ask for the UNet's own features.
            raise ConfigError(
                f"this feature injection was trained in mode {pfj.config.mode}, which runs outside ComfyUI only; "
                "use a file of mode pfj"
            )
        self.slots, self.blocks = _find_slots(pfj, model)
        if lq_latent.shape[1] != pfj.config.latent_channels:
            raise ConfigError(
                f"this PFJ is for latents of {pfj.config.latent_channels} channels; "
                f"the model's have {lq_latent.shape[1]}"
            )
        self._injector = FeatureInjector(pfj, lq_latent, grid, strength)

    def __call__(self, control: Any, tiles: Sequence[int], gain: Tensor | None, part: Box) -> Any:
        """A control that adds the residuals of these tiles to `control`'s; `part` is what of them is evaluated."""
        if (part.height, part.width) == self.grid.tile:
            residuals = self._injector(tiles, gain)
        else:
            # Under an area prompt the network sees this part alone, at sizes that features of the tile do not have.
            latent = crop_tiles(self.lq_latent, self.grid, tiles)
            latent = latent[..., part.top : part.top + part.height, part.left : part.left + part.width]
            known = latent.new_zeros(len(tiles), 2) if gain is None else gain
            residuals = self.pfj(latent.to(self.pfj.conv_in.weight.dtype), known, self.strength)
        inputs: list[Tensor | None] = [None] * self.blocks
        for slot, residual in zip(self.slots, residuals, strict=True):
            inputs[slot] = cast(Tensor, residual)  # of mode pfj, which makes nothing of a level's own features
        return _Residuals(inputs).set_previous_controlnet(control)


class _Residuals(comfy.controlnet.ControlBase):
    """Residuals that are known beforehand, by the UNet's input block."""

    def __init__(self, inputs: list[Tensor | None]) -> None:
        super().__init__()
        self.inputs = inputs

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: Any, batched_number: int, transformer_options: Any
    ) -> dict[str, list[Tensor | None]]:
        """See the host's `ControlBase`."""
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        parts = [None if part is None else part.repeat(batched_number, 1, 1, 1).to(x_noisy) for part in self.inputs]
        # The host takes them from the end.
        return self.control_merge({"input": parts[::-1]}, previous, x_noisy.dtype)


def _find_slots(pfj: Pfj, model: Any) -> tuple[tuple[int, ...], int]:
    """Input blocks that get residuals, and how many input blocks there are."""
    config = model.model_config.unet_config
    multiples, blocks = config.get("channel_mult"), config.get("num_res_blocks")
    widths = None if multiples is None else tuple(config["model_channels"] * multiple for multiple in multiples)
    if widths != tuple(pfj.config.channels) or blocks is None or len({*_each(blocks)}) != 1:
        raise ConfigError(
            f"this PFJ injects into a UNet of {_words(pfj.config.channels)} channels; "
            f"the model has {'no such UNet' if widths is None else _words(widths)}"
        )
    slots = encoder_slots(len(widths), next(iter(_each(blocks))))
    return slots, slots[-1] + 1


def _each(blocks: Any) -> Sequence[int]:
    return blocks if isinstance(blocks, Sequence) else [blocks]


def _words(widths: Sequence[int]) -> str:
    return ", ".join(map(str, widths))
