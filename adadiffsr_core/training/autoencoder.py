"""Training the autoencoder to speak Stable Diffusion's latents and to paint crisp pictures from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoint import Checkpoint, save_checkpoint
from ..config import Config
from ..errors import ConfigError
from ..nets.autoencoder import Autoencoder, AutoencoderConfig
from ..nets.layout import channels_last
from .charts import make_sheet
from .losses import PatchDiscriminator, discriminator_loss, feature_l1, gradient_l1
from .teacher import TeacherCache


@dataclass(frozen=True, kw_only=True)
class AutoencoderTaskConfig(Config):
    """Losses and data of the autoencoder.

    Attributes:
        crop_px: side of the training crops, a multiple of the autoencoder's factor.
        batch_size: crops in a step.
        latent_margin: latents next to a crop's border are not compared, since the teacher saw beyond it.
        gradient_weight, latent_weight: of their losses; plain L1 has weight 1.
        adversarial_from: step from which the discriminator takes part.
        adversarial_weight, feature_weight: of its two losses.
        freeze_encoder: train the decoder alone, so that latents made by now stay valid.
    """

    crop_px: int = 192
    batch_size: int = 8
    latent_margin: int = 2
    gradient_weight: float = 1.0
    latent_weight: float = 0.1
    adversarial_from: int = 1_000_000_000
    adversarial_weight: float = 0.01
    feature_weight: float = 0.1
    freeze_encoder: bool = False

    def __post_init__(self) -> None:
        if self.crop_px < 16 or self.batch_size < 1:
            raise ConfigError(f"crop_px must be at least 16 and batch_size 1, got {self.crop_px}, {self.batch_size}")


class AutoencoderTask:
    """A `Task` of the loop."""

    name = "autoencoder"
    averaged: tuple[str, ...] = ("autoencoder",)

    def __init__(
        self, net: AutoencoderConfig, config: AutoencoderTaskConfig, data: TeacherCache, seed: int, bfloat16: bool
    ) -> None:
        torch.manual_seed(seed)
        self.config, self.data, self.seed, self.bfloat16 = config, data, seed, bfloat16
        autoencoder = channels_last(Autoencoder(net))
        autoencoder.encoder.requires_grad_(not config.freeze_encoder)
        self.networks = nn.ModuleDict({"autoencoder": autoencoder, "discriminator": PatchDiscriminator()})

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """The autoencoder, then (once it takes part) the discriminator on the same pictures."""
        image, latent = self.data.draw(np.random.default_rng([self.seed, step]), self.config)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            made, encoded = self._reconstruct(image, latent)
        losses = self._picture_losses(made, image) | {"latent": self._latent_loss(encoded, latent)}
        weights = {"l1": 1.0, "gradient": self.config.gradient_weight, "latent": self.config.latent_weight}
        adversarial = step >= self.config.adversarial_from
        if adversarial:
            losses |= self._adversarial_losses(made, image)
            weights |= {"adversarial": self.config.adversarial_weight, "feature": self.config.feature_weight}
        total = torch.stack([weights[key] * value for key, value in losses.items()]).sum()
        yield "autoencoder", {"total": total, **losses}
        if adversarial:
            discriminator = cast(PatchDiscriminator, self.networks["discriminator"])
            real, fake = discriminator.features(image)[-1], discriminator.features(made.detach())[-1]
            yield "discriminator", {"total": discriminator_loss(real, fake)}

    def _reconstruct(self, image: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Decode our own latents for one half and the teacher's for the other: both will be met."""
        autoencoder = cast(Autoencoder, self.networks["autoencoder"])
        encoded = autoencoder.encode(image)
        half = len(image) // 2
        made = autoencoder.decode(torch.cat([encoded[:half], latent[half:].to(encoded.dtype)]))
        return made.float(), encoded.float()

    def _picture_losses(self, made: Tensor, image: Tensor) -> dict[str, Tensor]:
        return {"l1": F.l1_loss(made, image), "gradient": gradient_l1(made, image)}

    def _latent_loss(self, encoded: Tensor, latent: Tensor) -> Tensor:
        m = self.config.latent_margin
        inner = (..., slice(m, -m or None), slice(m, -m or None))
        return F.l1_loss(encoded[inner], latent[inner])

    def _adversarial_losses(self, made: Tensor, image: Tensor) -> dict[str, Tensor]:
        # The gradients that this leaves in the discriminator are cleared before its own turn.
        discriminator = cast(PatchDiscriminator, self.networks["discriminator"])
        fake = discriminator.features(made)
        with torch.no_grad():
            real = discriminator.features(image)
        return {"adversarial": -fake[-1].mean(), "feature": feature_l1(fake[:-1], real[:-1])}

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """Round trip and teacher-latent PSNR in dB, and the latents' relative distance, on held-out crops."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        rows = []
        for image, latent in self.data.held_out(24):
            encoded = autoencoder.encode(image)
            distance = (encoded - latent).norm() / latent.norm()
            pairs = (autoencoder.decode(encoded), autoencoder.decode(latent))
            rows.append([*(_psnr(made.clamp(0, 1), image) for made in pairs), float(distance)])
        means = np.mean(rows, axis=0)
        return dict(zip(("round_trip_db", "teacher_latent_db", "latent_distance"), map(float, means), strict=True))

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Originals over round trips, at full size."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        images = [image[..., :256, :256] for image, _ in self.data.held_out(4)]
        return make_sheet([[i[0] for i in images], [autoencoder.decode(autoencoder.encode(i))[0] for i in images]])

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `autoencoder`."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        tensors = {f"first_stage_model.{key}": value for key, value in autoencoder.state_dict().items()}
        config = {"autoencoder": autoencoder.config.to_dict()}
        save_checkpoint(Checkpoint("autoencoder", config, tensors, facts), path)


def _psnr(image: Tensor, target: Tensor) -> float:
    return float(-10 * torch.log10((image - target).square().mean()))
