"""Who tells pictures that a network painted from true ones, and the losses of that game."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...metrics.st_lpips import StLpips

_FOLD = 2  # px of a side of what becomes channels


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


class FeatureDiscriminator(nn.Module):
    """Real or made, by a small head on each stage of a network that has already learnt to see: ST-LPIPS's, frozen.

    It tells made from true after tens of steps, where one that began from nothing could not in hundreds (decision D79).
    The pixels are a stage of their own, since that network's first one averages over the finest texture.

    Source: projected GANs (Sauer et al. 2021), without their random mixing of stages.

    Args:
        eyes: on the device where it shall be.
        width: channels of a head.
    """

    def __init__(self, eyes: StLpips, width: int = 64) -> None:
        super().__init__()
        self._eyes = (eyes,)  # no module of its own: never trained, and no part of a run's state
        widths = [3 * _FOLD**2, *eyes.widths]
        self.bodies = nn.ModuleList(_body(channels, width) for channels in widths)
        self.lasts = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for _ in widths)

    def features(self, image: Tensor) -> list[Tensor]:
        """Each head's activations for images `[N,3,H,W]` in [0,1], then the logits `[N,6,H/2,W/2]`.

        Those of later stages, which are smaller, are repeated, so that every stage has the same say.
        """
        pixels = F.pixel_unshuffle(image * 2 - 1, _FOLD)
        # Of unit length over the channels, each of them would be small.
        stages = [pixels, *(stage * math.sqrt(stage.shape[1]) for stage in self._eyes[0].features(image))]
        seen = [body(stage) for body, stage in zip(self.bodies, stages, strict=True)]
        logits = [last(hidden) for last, hidden in zip(self.lasts, seen, strict=True)]
        return [*seen, torch.cat([F.interpolate(logit, logits[0].shape[-2:]) for logit in logits], dim=1)]


def _body(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, width, 3, padding=1),
        nn.GroupNorm(math.gcd(8, width), width),
        nn.LeakyReLU(0.2),
    )


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss on logits (Lim and Ye 2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + made).mean()


def feature_l1(made: list[Tensor], real: list[Tensor]) -> Tensor:
    """Mean L1 between a discriminator's activations (Salimans et al. 2016, feature matching)."""
    return torch.stack([F.l1_loss(a, b.detach()) for a, b in zip(made, real, strict=True)]).mean()
