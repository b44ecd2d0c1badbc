"""Training the diffusion model: noise levels, targets and losses in the autoencoder's latent space."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ..config import Config
from ..errors import ConfigError
from ..nets.autoencoder import Autoencoder, AutoencoderConfig
from ..nets.layout import channels_last
from ..nets.unet import UNet, UNetConfig
from ..networks import AUTOENCODER_PREFIX, UNET_PREFIX
from ..schedule import Prediction, Schedule
from .charts import make_sheet
from .denoising import NoisyPairs, denoising_loss, draw_noise, sample_plainly
from .latent_pairs import LatentPairs
from .processor import Processor


@dataclass(frozen=True, kw_only=True)
class LdmTaskConfig(Config):
    """What the diffusion model learns.

    Attributes:
        batch_size: pairs in a step.
        prediction: what the network predicts.
    """

    batch_size: int = 32
    prediction: Prediction = "v"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")


class LdmTask:
    """A `Task` of the loop; the autoencoder is frozen and goes into the exported file."""

    name = "ldm"
    averaged: tuple[str, ...] = ("unet",)

    def __init__(
        self,
        net: UNetConfig,
        config: LdmTaskConfig,
        autoencoder: Autoencoder,
        pairs: LatentPairs,
        held_out: LatentPairs,
        seed: int,
        bfloat16: bool,
    ) -> None:
        torch.manual_seed(seed)
        self.config, self.seed, self.bfloat16 = config, seed, bfloat16
        self.schedule = Schedule(config.prediction)
        self.pairs, self.held_out = pairs, held_out
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.networks = nn.ModuleDict({"unet": channels_last(UNet(net))})

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """One batch of pairs, each at a noise level of its own."""
        rng = np.random.default_rng([self.seed, step])
        gt, lq = self.pairs.draw(rng, self.config.batch_size)
        generator = Processor().generator(self.seed, step)
        loss = self._loss(cast(UNet, self.networks["unet"]), gt, lq, generator).mean()
        yield "unet", {"total": loss}

    def _loss(self, unet: UNet, gt: Tensor, lq: Tensor, generator: torch.Generator | None) -> Tensor:
        """Squared error of the network's output `[B]`."""
        timesteps, noise = draw_noise(gt, generator)
        pairs, processor = NoisyPairs(gt, lq, noise, timesteps), Processor(bfloat16=self.bfloat16)
        return denoising_loss(unet, self.schedule, pairs, processor=processor)

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """The loss on held-out pairs, always with the same noise."""
        generator = Processor().generator(self.seed, 0)
        losses = []
        for start in range(0, min(256, self.held_out.count), 32):
            gt, lq = self.held_out.take(np.arange(start, min(start + 32, self.held_out.count)))
            losses.append(self._loss(cast(UNet, networks["unet"]), gt, lq, generator).mean())
        return {"loss": float(torch.stack(losses).mean())}

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Low-quality inputs over restored pictures over the truth."""
        gt, lq = self.held_out.take(np.arange(6))
        made = self._sample(cast(UNet, networks["unet"]), lq)
        return make_sheet([list(self.autoencoder.decode(latent)) for latent in (lq, made, gt)])

    def _sample(self, unet: UNet, lq: Tensor) -> Tensor:
        def predict(x: Tensor, sigma: Tensor) -> Tensor:
            inputs = torch.cat([self.schedule.scale_input(x, sigma), lq], dim=1)
            return cast(Tensor, unet(inputs, self.schedule.sigma_to_timestep(sigma)))

        return sample_plainly(predict, self.schedule, lq, self.seed)

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `ldm`: UNet, autoencoder, and the prediction type."""
        save_ldm(cast(UNet, networks["unet"]), self.autoencoder, self.config.prediction, path, facts)


def save_ldm(
    unet: UNet, autoencoder: Autoencoder, prediction: Prediction, path: Path, facts: Mapping[str, object]
) -> None:
    """Write a weights file of kind `ldm`: UNet, autoencoder, and the prediction type."""
    tensors = {f"{UNET_PREFIX}{key}": value for key, value in unet.state_dict().items()}
    tensors |= {f"{AUTOENCODER_PREFIX}{key}": value for key, value in autoencoder.state_dict().items()}
    config = {
        "unet": unet.config.to_dict(),
        "autoencoder": autoencoder.config.to_dict(),
        "schedule": {"prediction": prediction},
    }
    save_checkpoint(Checkpoint("ldm", config, tensors, facts), path)


def load_autoencoder(path: Path) -> Autoencoder:
    """The autoencoder of a weights file of any kind that has one.

    Raises:
        CheckpointError: the file cannot be used.
    """
    checkpoint = load_checkpoint(path, "autoencoder", "ldm", "bundle")
    autoencoder = Autoencoder(AutoencoderConfig.from_dict(checkpoint.section("autoencoder")))
    checkpoint.load_into(autoencoder, AUTOENCODER_PREFIX)
    return channels_last(autoencoder)
