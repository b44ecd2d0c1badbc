"""Training feature injection: the diffusion loss with the gain that the sampler would know, UNet frozen or not."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ...config import Batch, unknown
from ...data.latent_pairs import LatentPairs
from ...drawing.charts import make_sheet
from ...errors import ConfigError
from ...gain.choose import choose_estimator
from ...models.checkpoint import Checkpoint, name_weights, save_checkpoint
from ...models.model import Model
from ...models.networks import PFJ_PREFIX
from ...nets.pfj import Pfj, PfjConfig
from ...nets.unet import UNet
from ...pipeline import sample_latent
from ...settings import PRESETS, SamplingConfig
from .denoising import NoisyPairs, ScheduledUNet, draw_noise
from .known_gain import count_knowing, draw_intervals, known_gain
from .ldm import save_ldm
from .picture_losses import DISCRIMINATOR, EstimateLossConfig, EstimateLosses, add_up
from .setup import Examples, TaskSetup

_CHECKED = 256  # held-out pairs that are measured
_CHUNK = 32


@dataclass(frozen=True, kw_only=True)
class PfjTaskConfig(EstimateLossConfig):
    """What the injection learns.

    Attributes:
        batch_size: pairs in a step.
        preset: whose base steps, ladder and start of NR gain are used.
        perceptual_weight, adversarial_weight, feature_weight, discriminator, discriminator_width, perceptual_items,
            perceptual_crop:
            see `EstimateLossConfig`.
    """

    batch_size: Batch = 24
    preset: str = "everyday"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)

    @property
    def sampling(self) -> SamplingConfig:
        """The preset."""
        return PRESETS[self.preset]


class PfjTask:
    """A `Task` of the loop.

    Gains come from the model as it was given, joint training or not, so that runs of one seed see the same pairs,
    noise and gains in every mode.

    Source: section 3.4, Eq. 3, Table 5.

    Args:
        net: shape and mode.
        config: what to learn.
        model: the frozen networks, which go to the processor's device, and the estimator by which gains are known.
        pairs: made with the model's autoencoder; at least 6 to measure on.
        setup: where it is trained; its facts are of the model.
        joint: train the UNet as well.

    Raises:
        ConfigError: the injection is for another UNet or other latents.
    """

    name = "pfj"
    averaged: tuple[str, ...] = ("injection",)

    def __init__(
        self,
        net: PfjConfig,
        config: PfjTaskConfig,
        model: Model,
        pairs: Examples[LatentPairs, LatentPairs],
        setup: TaskSetup,
        joint: bool = False,
    ) -> None:
        processor = setup.processor
        torch.manual_seed(setup.seed)
        pfj = processor.install(Pfj(net))
        replace(model, pfj=pfj)
        for frozen in (model.unet, model.autoencoder, model.mmle):
            if frozen is not None:
                processor.install(frozen)
        self.net, self.config, self.model = net, config, model
        self.estimator = model.estimator or choose_estimator(model.mmle, model.unet.config.out_channels)
        self.pairs, self.held_out = pairs.train, pairs.held_out
        self.seed, self.processor, self.facts, self.joint = setup.seed, processor, setup.facts, joint
        # One optimiser, since both come from one backward pass.
        trained = nn.ModuleDict({"pfj": pfj})
        if joint:
            trained["unet"] = copy.deepcopy(model.unet).requires_grad_(True)
        self.networks = nn.ModuleDict({"injection": trained})
        self.seen = EstimateLosses(config, model.autoencoder, processor)
        if self.seen.discriminator is not None:
            self.networks[DISCRIMINATOR] = self.seen.discriminator

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """One batch of pairs, each at a noise level of its own."""
        rng = np.random.default_rng([self.seed, step])
        pairs, gain = self._draw(self.pairs.draw(rng, self.config.batch_size), rng, step)
        error, denoised = self._learn(self.networks, pairs, gain)
        loss = error.mean()
        if not self.seen.looks:
            yield "injection", {"total": loss, "error": loss}
            return
        rows = self.seen.least_noisy(pairs.timesteps)
        made, truth = self.seen.decode(denoised[rows], pairs.gt[rows], rng)
        terms = [(1.0, "error", loss), *self.seen.losses.terms(made, truth)]
        yield "injection", {"total": add_up(terms), **{name: value for _, name, value in terms}}
        yield from self.seen.losses.turns(made, truth)

    def _draw(self, drawn: tuple[Tensor, Tensor], rng: np.random.Generator, step: int) -> tuple[NoisyPairs, Tensor]:
        """Noise for pairs of the CPU's, and what the sampler would know, on the device."""
        gt, lq = map(self.processor.place, drawn)
        timesteps, noise = draw_noise(gt, self.processor.generator(self.seed, step))
        pairs = NoisyPairs(gt, lq, noise, timesteps)
        if not self.net.sees_gain:
            return pairs, gt.new_zeros(len(gt), 2)
        sampling = self.config.sampling
        intervals = self.processor.place(draw_intervals(rng, len(gt), sampling))
        net, most = self._scheduled(self.model.unet), count_knowing(len(gt), sampling)
        return pairs, known_gain(net, self.estimator, sampling, pairs, intervals, most=most)

    def _scheduled(self, unet: UNet) -> ScheduledUNet:
        return ScheduledUNet(unet, self.model.schedule, self.processor)

    def _learn(self, networks: nn.ModuleDict, pairs: NoisyPairs, gain: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared error of the UNet's output, `[B]`, and its estimate; a gain of None injects nothing."""
        unet, pfj = self._parts(networks)
        with self.processor.autocast():
            residuals = None if gain is None else pfj(pairs.lq.contiguous(memory_format=torch.channels_last), gain)
        return self._scheduled(unet).learn(pairs, residuals)

    def _parts(self, networks: nn.ModuleDict) -> tuple[UNet, Pfj]:
        trained = cast(nn.ModuleDict, networks["injection"])
        return cast(UNet, trained["unet"]) if self.joint else self.model.unet, cast(Pfj, trained["pfj"])

    @torch.no_grad()
    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """The loss on held-out pairs: with injection, with it but no gain, and without it, with the same noise."""
        losses: dict[str, list[Tensor]] = {"loss": [], "zero_gain": [], "without": []}
        for start, drawn in self.held_out.chunks(_CHUNK, _CHECKED):
            pairs, gain = self._draw(drawn, np.random.default_rng([self.seed, start]), start)
            for name, shown in (("loss", gain), ("zero_gain", torch.zeros_like(gain)), ("without", None)):
                losses[name].append(self._learn(networks, pairs, shown)[0])
        return {name: float(torch.cat(parts).mean()) for name, parts in losses.items()}

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Low-quality inputs over what is made of them without and with injection, over the truth."""
        gt, lq = map(self.processor.place, self.held_out.take(np.arange(6)))
        unet, pfj = self._parts(networks)
        side = lq.shape[-1] * self.model.sizes.factor
        sampling = replace(self.config.sampling, tile_size=side, overlap=0, tile_fit=False, seed=self.seed)
        made = [
            sample_latent(replace(self.model, unet=unet, pfj=net, estimator=self.estimator), lq, sampling).latent
            for net in (None, pfj)
        ]
        return make_sheet([list(self.model.decode(latent)) for latent in (lq, *made, gt)])

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `pfj`, and after joint training the UNet's `ldm.safetensors` beside it."""
        unet, pfj = self._parts(networks)
        facts = {**facts, **self.facts, "mode": pfj.config.mode, "joint": self.joint}
        config = {"pfj": pfj.config.to_dict()}
        save_checkpoint(Checkpoint("pfj", config, name_weights(pfj, PFJ_PREFIX), facts), path)
        if self.joint:
            save_ldm(unet, self.model.autoencoder, self.model.schedule, path.with_name("ldm.safetensors"), facts)
