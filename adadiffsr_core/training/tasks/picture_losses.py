"""What the eye says of pictures that a network paints: ST-LPIPS and a discriminator, for every task that paints."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...config import Batch, Config
from ...errors import ConfigError
from ...metrics.st_lpips import StLpips
from ...models.processor import Processor
from ...nets.autoencoder import Autoencoder
from .discriminators import FeatureDiscriminator, PatchDiscriminator, discriminator_loss, feature_l1

DISCRIMINATOR = "discriminator"
LEAST_CROP = 4  # latent px that are decoded: those who look see nothing in less
_WIDEST = 512

Term = tuple[float, str, Tensor]  # weight in the loss, name, value
LearntDiscriminator = PatchDiscriminator | FeatureDiscriminator


@dataclass(frozen=True, kw_only=True)
class PictureLossConfig(Config):
    """Weights of what is said of a painted picture.

    Attributes:
        perceptual_weight: of its ST-LPIPS; above 0 it needs stlpips-pytorch.
        adversarial_weight: of the discriminator's word.
        feature_weight: of the distance of the discriminator's activations, where it takes part.
    """

    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    feature_weight: float = 0.1

    @property
    def needs_st_lpips(self) -> bool:
        """Whether ST-LPIPS or its network takes part."""
        return self.perceptual_weight > 0

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = {name: value for name, value in vars(self).items() if name.endswith("_weight")}
        if negative := [name for name, value in parts.items() if value < 0]:
            raise ConfigError(f"{negative[0]} must not be negative, got {parts[negative[0]]}")


@dataclass(frozen=True)
class PictureLosses:
    """Those who look at a painted picture.

    Attributes:
        config: their weights.
        distance: ST-LPIPS, or None.
        discriminator: or None.
    """

    config: PictureLossConfig
    distance: StLpips | None
    discriminator: LearntDiscriminator | None

    def terms(self, made: Tensor, truth: Tensor) -> list[Term]:
        """What goes into the painter's loss, for pictures `[N,3,H,W]` in [0,1].

        It leaves gradients in the discriminator, which are cleared before its own turn.
        """
        terms: list[Term] = []
        if self.distance is not None:
            with torch.no_grad():
                real = self.distance.features(truth)
            value = self.distance.compare(self.distance.features(made), real).mean()
            terms.append((self.config.perceptual_weight, "perceptual", value))
        if self.discriminator is not None:
            fake = self.discriminator.features(made)
            with torch.no_grad():
                real = self.discriminator.features(truth)
            terms.append((self.config.adversarial_weight, "adversarial", -fake[-1].mean()))
            terms.append((self.config.feature_weight, "feature", feature_l1(fake[:-1], real[:-1])))
        return terms

    def turns(self, made: Tensor, truth: Tensor) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """The discriminator's own turn on the same pictures, once the painter has had its; none without it."""
        if self.discriminator is not None:
            real, fake = self.discriminator.features(truth)[-1], self.discriminator.features(made.detach())[-1]
            yield DISCRIMINATOR, {"total": discriminator_loss(real, fake)}


def add_up(terms: list[Term]) -> Tensor:
    """The loss that terms make together."""
    return torch.stack([weight * value for weight, _, value in terms]).sum()


@dataclass(frozen=True, kw_only=True)
class LookerConfig(PictureLossConfig):
    """Who looks, beside how much each of them counts.

    Attributes:
        perceptual_weight, adversarial_weight, feature_weight: see `PictureLossConfig`.
        discriminator: whose word counts: of one that looks at pixels, or at what ST-LPIPS's network sees in them, which
            needs stlpips-pytorch.
        discriminator_width: channels of its first stage, or of each head.
    """

    discriminator: Literal["pixels", "features"] = "pixels"
    discriminator_width: int = 32

    @property
    def needs_st_lpips(self) -> bool:
        """Whether ST-LPIPS or its network takes part."""
        return bool(self.perceptual_weight or (self.adversarial_weight and self.discriminator == "features"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.discriminator_width <= _WIDEST:
            raise ConfigError(f"discriminator_width must be in [1,{_WIDEST}], got {self.discriminator_width}")


def gather_lookers(config: LookerConfig, processor: Processor) -> PictureLosses:
    """Those who look, on the processor's device.

    Raises:
        MissingExtraError: ST-LPIPS or its network takes part, and stlpips-pytorch is not installed.
    """
    sees_features = bool(config.adversarial_weight) and config.discriminator == "features"
    eyes = processor.install(StLpips()) if config.needs_st_lpips else None
    discriminator: LearntDiscriminator | None = None
    if config.adversarial_weight:
        judge = PatchDiscriminator if eyes is None or not sees_features else partial(FeatureDiscriminator, eyes)
        discriminator = processor.install(judge(config.discriminator_width))
    return PictureLosses(config, eyes if config.perceptual_weight else None, discriminator)


@dataclass(frozen=True, kw_only=True)
class EstimateLossConfig(LookerConfig):
    """What is said of decoded estimates of x0, beside the error of the network's output (decisions D32 and D77).

    Attributes:
        perceptual_weight, adversarial_weight, feature_weight, discriminator, discriminator_width: see `LookerConfig`.
        perceptual_items: how many items of a batch are looked at: the least noisy, since of others an estimate is
            rightly blurred.
        perceptual_crop: side of what is decoded of each, latent px.
    """

    perceptual_items: Batch = 4
    perceptual_crop: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.perceptual_items < 1 or self.perceptual_crop < LEAST_CROP:
            raise ConfigError(
                f"perceptual_items must be at least 1 and perceptual_crop {LEAST_CROP}, got {self.perceptual_items} "
                f"and {self.perceptual_crop}"
            )


class EstimateLosses:
    """`PictureLosses` of decoded estimates.

    Attributes:
        losses: of those who look.

    Args:
        config: which, and of how many items.
        autoencoder: frozen, on the processor's device.
        processor: that trains.

    Raises:
        MissingExtraError: see `gather_lookers`.
    """

    def __init__(self, config: EstimateLossConfig, autoencoder: Autoencoder, processor: Processor) -> None:
        self.config, self.autoencoder, self.processor = config, autoencoder, processor
        self.losses = gather_lookers(config, processor)

    @property
    def discriminator(self) -> LearntDiscriminator | None:
        """That has to be trained in turn, or None."""
        return self.losses.discriminator

    @property
    def looks(self) -> bool:
        """Whether any of them takes part."""
        return self.losses.distance is not None or self.losses.discriminator is not None

    def least_noisy(self, timesteps: Tensor) -> Tensor:
        """Which items to look at, of a batch at timesteps `[B]`: their numbers, `[perceptual_items]`."""
        return timesteps.argsort()[: self.config.perceptual_items]

    def decode(self, denoised: Tensor, gt: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The same part of estimates and of their truths, as pictures `[N,3,S,S]`.

        Args:
            denoised: estimates of x0, `[N,C,h,w]`.
            gt: what they are of, the same.
            rng: of the part.
        """
        height, width = denoised.shape[-2:]
        side = min(self.config.perceptual_crop, height, width)
        top, left = (int(rng.integers(length - side + 1)) for length in (height, width))

        def cut(latent: Tensor) -> Tensor:
            return latent[..., top : top + side, left : left + side]

        with self.processor.autocast():
            made = self.autoencoder.decode(cut(denoised)).float()
            with torch.no_grad():
                truth = self.autoencoder.decode(cut(gt)).float().clamp(0, 1)
        return made, truth
