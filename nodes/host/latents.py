"""The latent space of a checkpoint of ours, as the host describes one."""

from typing import Any

import comfy.latent_formats

from ...adadiffsr_core.models.latent_colours import LatentColours, plain_colours
from ...adadiffsr_core.models.networks import Networks
from ...adadiffsr_core.nets.autoencoder import Autoencoder


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


def latent_format(networks: Networks) -> Any:
    """Stable Diffusion 1's space for latents like its own, or one of our own, in the colours that the file says.

    Raises:
        CheckpointError: the file has no autoencoder.
    """
    shape = networks.config(Autoencoder)
    if (shape.z_channels, shape.factor) == (4, 8):
        return comfy.latent_formats.SD15()
    return RestorationFormat(shape.z_channels, shape.factor, networks.colours or plain_colours(shape.z_channels))
