"""Training an autoencoder whose latents can be diffused, and that paints crisp pictures from them.

A latent space that only has to be decoded again is filled to the brim with what a diffusion model must then sample as
if it were noise. So a free space is held by three means (decision D35): its channels have the same scale, the decoder
is shown latents with noise on them and has to forgive it, and latents at half the size must decode to the picture at
half the size, so that they stay a kind of picture. In the space of a teacher those are the teacher's business.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import Batch, Side
from ...data.flat_colours import paint_flats
from ...data.photo_bank import PIECE_PX, PhotoBank
from ...drawing.charts import make_sheet
from ...errors import ConfigError
from ...metrics.st_lpips import StLpips
from ...models.checkpoint import Checkpoint, name_weights, save_checkpoint
from ...models.networks import AUTOENCODER_PREFIX
from ...nets.autoencoder import Autoencoder, AutoencoderConfig
from .discriminators import PatchDiscriminator
from .losses import gradient_l1, moment_loss
from .picture_losses import DISCRIMINATOR, PictureLossConfig, PictureLosses, Term, add_up
from .setup import Examples, TaskSetup
from .taesd import Taesd

_NEVER = 1_000_000_000
_CHECKED = 24  # held-out photographs that are measured
_CHECKED_PX = 256


@dataclass(frozen=True, kw_only=True)
class AutoencoderTaskConfig(PictureLossConfig):
    """Losses and data of the autoencoder.

    Attributes:
        crop_px: side of the training crops, a multiple of twice the autoencoder's factor.
        batch_size: crops in a step.
        min_scale: crops are made smaller by up to this factor, for variety.
        flat_share: of crops that are one or two plain colours.
        gradient_weight: of the loss on differences of neighbouring pixels; plain L1 has weight 1.
        latent_weight: of the distance to the teacher's latents, where there is a teacher.
        latent_margin: latents next to a crop's border are not compared, since the teacher pads with zeros.
        noise: largest standard deviation of the noise on latents that are decoded, drawn for each crop.
        moments_weight: of the distance of each latent channel from zero mean and unit variance, without a teacher.
        equivariance_weight: of the losses at half the size, without a teacher.
        perceptual_from, perceptual_weight: ST-LPIPS of the round trip from this step on; it needs stlpips-pytorch.
        adversarial_from: step from which the discriminator takes part.
        adversarial_weight, feature_weight: see `PictureLossConfig`.
        freeze_encoder: train the decoder alone, so that latents made by now stay valid.
    """

    crop_px: Side = 128
    batch_size: Batch = 8
    min_scale: float = 0.5
    flat_share: float = 0.03
    gradient_weight: float = 1.0
    latent_weight: float = 0.3
    latent_margin: int = 2
    noise: float = 0.2
    moments_weight: float = 0.1
    equivariance_weight: float = 0.25
    perceptual_from: int = _NEVER
    perceptual_weight: float = 0.1
    adversarial_from: int = _NEVER
    adversarial_weight: float = 0.01
    freeze_encoder: bool = False

    @property
    def needs_st_lpips(self) -> bool:
        """Whether ST-LPIPS takes part at any time."""
        return self.perceptual_from < _NEVER

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop_px < 16 or self.batch_size < 1 or self.latent_margin < 0:
            raise ConfigError(
                "crop_px must be at least 16, batch_size 1 and latent_margin 0, got "
                f"{self.crop_px}, {self.batch_size} and {self.latent_margin}"
            )
        if min(self.perceptual_from, self.adversarial_from) < 0:
            raise ConfigError(
                "perceptual_from and adversarial_from must not be negative, got "
                f"{self.perceptual_from} and {self.adversarial_from}"
            )
        if not 0 <= self.flat_share <= 1 or not 0 < self.min_scale <= 1 or not 0 <= self.noise < float("inf"):
            raise ConfigError(
                "flat_share must be in [0,1], min_scale in (0,1] and noise not negative, got "
                f"{self.flat_share}, {self.min_scale} and {self.noise}"
            )


class AutoencoderTask:
    """A `Task` of the loop.

    Args:
        net: shape of the autoencoder.
        config: what it learns.
        photos: on the processor's device.
        setup: where it is trained.
        teacher: whose latents the encoder learns; None leaves the space free.

    Raises:
        ConfigError: crops do not fit the autoencoder, or its latents are not the teacher's.
        MissingExtraError: there is a perceptual term, and stlpips-pytorch is not installed.
    """

    name = "autoencoder"
    averaged: tuple[str, ...] = ("autoencoder",)

    def __init__(
        self,
        net: AutoencoderConfig,
        config: AutoencoderTaskConfig,
        photos: Examples[PhotoBank, PhotoBank],
        setup: TaskSetup,
        teacher: Taesd | None = None,
    ) -> None:
        check_sizes(net, config, teacher)
        processor = setup.processor
        torch.manual_seed(setup.seed)
        self.config, self.photos, self.held_out = config, photos.train, photos.held_out
        self.processor, self.seed = processor, setup.seed
        self.teacher = None if teacher is None else processor.install(teacher)
        autoencoder = processor.install(Autoencoder(net))
        autoencoder.encoder.requires_grad_(not config.freeze_encoder)
        discriminator = processor.install(PatchDiscriminator())
        self.networks = nn.ModuleDict({"autoencoder": autoencoder, DISCRIMINATOR: discriminator})
        self.distance = processor.install(StLpips()) if config.needs_st_lpips else None

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """The autoencoder, then (once it takes part) the discriminator on the same pictures."""
        config, generator = self.config, self.processor.generator(self.seed, step)
        image = self.photos.draw(config.batch_size, config.crop_px, config.min_scale, generator)
        image = paint_flats(image, config.flat_share, generator)
        made, losses = self._round_trip(image, generator)
        seen = self._lookers(step)
        terms = losses + seen.terms(made, image)
        yield "autoencoder", {"total": add_up(terms), **{name: value for _, name, value in terms}}
        yield from seen.turns(made, image)

    def _lookers(self, step: int) -> PictureLosses:
        """Those who have come in by this step."""
        config, discriminator = self.config, cast(PatchDiscriminator, self.networks[DISCRIMINATOR])
        return PictureLosses(
            config,
            self.distance if step >= config.perceptual_from else None,
            discriminator if step >= config.adversarial_from else None,
        )

    def _round_trip(self, image: Tensor, generator: torch.Generator | None) -> tuple[Tensor, list[Term]]:
        """The picture that comes back, and the losses of picture and latents: weight, name, value."""
        config, autoencoder = self.config, cast(Autoencoder, self.networks["autoencoder"])
        taught = None if self.teacher is None else self._teach(self.teacher, image)
        with self.processor.autocast():
            encoded = autoencoder.encode(image)
            made = autoencoder.decode(self._disturb(_half_taught(encoded, taught), generator)).float()
            small = None
            if taught is None and config.equivariance_weight:
                small = autoencoder.decode(F.avg_pool2d(encoded, 2)).float()
        encoded = encoded.float()
        losses = _picture_losses(made, image, 1.0, config.gradient_weight, "")
        if taught is not None:
            m = config.latent_margin
            inner = (..., slice(m, -m or None), slice(m, -m or None))
            return made, [*losses, (config.latent_weight, "latent", F.l1_loss(encoded[inner], taught[inner]))]
        if small is not None:
            weight = config.equivariance_weight
            losses += _picture_losses(small, F.avg_pool2d(image, 2), weight, weight * config.gradient_weight, "half_")
        return made, [*losses, (config.moments_weight, "moments", moment_loss(encoded))]

    @torch.no_grad()
    def _teach(self, teacher: Taesd, image: Tensor) -> Tensor:
        with self.processor.autocast():
            return teacher.encode(image).float()

    def _disturb(self, latent: Tensor, generator: torch.Generator | None) -> Tensor:
        """Noise of a level drawn for each latent; none on about half of them, which have to come out best."""
        drawn = torch.rand((len(latent), 1, 1, 1), generator=generator, device=latent.device)
        noise = torch.randn(latent.shape, generator=generator, device=latent.device)
        return latent + (drawn * 2 - 1).clamp_min(0) * self.config.noise * noise

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """Round trip PSNR in dB on held-out photographs, without noise on the latents and with noise of 0.1."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        generator = self.processor.generator(self.seed, 0)
        errors = []
        for image in torch.split(self.held_out.look(_CHECKED, _CHECKED_PX), 1):
            latent = autoencoder.encode(image)
            noise = torch.randn(latent.shape, device=latent.device, generator=generator)
            pictures = (autoencoder.decode(shown).clamp(0, 1) for shown in (latent, latent + 0.1 * noise))
            errors.append(torch.stack([(picture - image).square().mean() for picture in pictures]))
        clean, noisy = (-10 * torch.stack(errors).log10()).mean(dim=0).tolist()
        return {"round_trip_db": clean, "noisy_db": noisy}

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Originals over round trips, at full size."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        images = self.held_out.look(4, _CHECKED_PX)
        return make_sheet([list(images), list(autoencoder.decode(autoencoder.encode(images)))])

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `autoencoder`."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        tensors = name_weights(autoencoder, AUTOENCODER_PREFIX)
        config = {"autoencoder": autoencoder.config.to_dict()}
        save_checkpoint(Checkpoint("autoencoder", config, tensors, facts), path)


def _picture_losses(made: Tensor, image: Tensor, weight: float, gradient_weight: float, prefix: str) -> list[Term]:
    return [
        (weight, f"{prefix}l1", F.l1_loss(made, image)),
        (gradient_weight, f"{prefix}gradient", gradient_l1(made, image)),
    ]


def _half_taught(encoded: Tensor, taught: Tensor | None) -> Tensor:
    """Our own latents for one half of a batch and the teacher's for the other: both will be met."""
    if taught is None:
        return encoded
    half = len(encoded) // 2
    return torch.cat([encoded[:half], taught[half:].to(encoded.dtype)])


def check_sizes(net: AutoencoderConfig, config: AutoencoderTaskConfig, teacher: Taesd | None) -> None:
    """Refuse crops that do not fit the autoencoder, and an autoencoder whose latents are not the teacher's.

    Raises:
        ConfigError: so it is.
    """
    if teacher is not None and (net.factor, net.z_channels) != (8, teacher.channels):
        raise ConfigError(f"the teacher's latents have {teacher.channels} channels at 1/8 of the size; net must too")
    unit = 2 * net.factor
    if config.crop_px % unit or config.crop_px > PIECE_PX:
        raise ConfigError(f"crop_px must be a multiple of {unit} up to {PIECE_PX}, got {config.crop_px}")
    if teacher is not None and config.crop_px <= 2 * config.latent_margin * net.factor:
        raise ConfigError(
            f"crop_px {config.crop_px} leaves nothing to compare within a latent_margin of {config.latent_margin}; "
            f"use more than {2 * config.latent_margin * net.factor}"
        )
