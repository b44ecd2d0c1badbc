"""Losses of the autoencoder."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gradient_l1(image: Tensor, target: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences of images `[N,C,H,W]`: asks for edges, not means."""
    error = image - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def moment_loss(latent: Tensor) -> Tensor:
    """How far each channel of latents `[N,C,h,w]` is from zero mean and unit variance over the batch.

    Where noise is added to latents, a channel could otherwise buy precision by being large.
    """
    mean, deviation = latent.mean(dim=(0, 2, 3)), latent.std(dim=(0, 2, 3))
    return (mean.square() + (deviation - 1).square()).mean()


class PatchDiscriminator(nn.Module):
    """Real or made, for each patch of 35 px or so.

    Source: Isola et al. 2017 (PatchGAN), with spectral norm (Miyato et al. 2018) and the pixels
    folded 2x2 first, which makes it four times cheaper.

    Args:
        width: channels of its first stage; the second has twice as many, the third four times.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.spectral_norm
        widths = [12, width, 2 * width, 4 * width]
        self.stages = nn.ModuleList(
            norm(nn.Conv2d(a, b, 4, stride=2, padding=1)) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def features(self, image: Tensor) -> list[Tensor]:
        """Activations of each stage for an image `[N,3,H,W]` in [0,1], then the logits `[N,1,H/16,W/16]`."""
        x, seen = F.pixel_unshuffle(image * 2 - 1, 2), []
        for stage in self.stages:
            x = F.leaky_relu(stage(x), 0.2)
            seen.append(x)
        return [*seen, cast(Tensor, self.head(x))]


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss on logits (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + made).mean()


def feature_l1(made: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean L1 between a discriminator's activations (Salimans et al. 2016, feature matching)."""
    return torch.stack([F.l1_loss(a, b.detach()) for a, b in zip(made, real, strict=True)]).mean()
