"""The latent space of a checkpoint of ours, as the host describes one."""

from typing import Any

import comfy.latent_formats

from ...adadiffsr_core.checkpoint import Checkpoint
from ...adadiffsr_core.errors import CheckpointError
from ...adadiffsr_core.latent_colours import LatentColours, plain_colours
from ...adadiffsr_core.nets.autoencoder import AutoencoderConfig
from ...adadiffsr_core.networks import read_config


class RestorationFormat(comfy.latent_formats.LatentFormat):
    """A latent space of our own: of unit variance as it is, so that nothing is scaled.

    Args:
        channels: of a latent.
        factor: image px per latent px.
        colours: what previews show.
    """

    scale_factor = 1.0

    def __init__(self, channels: int, factor: int, colours: LatentColours) -> None:
        super().__init__()
        self.latent_channels, self.spacial_downscale_ratio = channels, factor
        self.latent_rgb_factors = [list(row) for row in colours.factors]
        self.latent_rgb_factors_bias = list(colours.bias)


def latent_format(checkpoint: Checkpoint) -> Any:
    """Stable Diffusion 1's space for latents like its own, or one of our own, in the colours that the file says.

    Raises:
        CheckpointError: the file's config says no latent space, or colours of another one.
    """
    shape = read_config(checkpoint, "autoencoder", AutoencoderConfig)
    if (shape.z_channels, shape.factor) == (4, 8):
        return comfy.latent_formats.SD15()
    known = "preview" in checkpoint.config
    colours = read_config(checkpoint, "preview", LatentColours) if known else plain_colours(shape.z_channels)
    if len(colours.factors) != shape.z_channels:
        raise CheckpointError(
            f"{checkpoint.path} has preview colours of {len(colours.factors)} channels for {shape.z_channels}"
        )
    return RestorationFormat(shape.z_channels, shape.factor, colours)
