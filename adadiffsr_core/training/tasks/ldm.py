"""Training the diffusion model: noise levels, targets and losses in the autoencoder's latent space."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...config import Batch
from ...data.latent_pairs import LatentPairs
from ...data.pair_source import PairSource
from ...drawing.charts import make_sheet
from ...errors import ConfigError, MissingExtraError
from ...metrics.base import Metric
from ...metrics.psnr import psnr
from ...metrics.st_lpips import StLpips
from ...models.checkpoint import Checkpoint, name_weights, save_checkpoint
from ...models.networks import AUTOENCODER_PREFIX, UNET_PREFIX, open_networks
from ...models.processor import Processor
from ...nets.autoencoder import Autoencoder
from ...nets.unet import UNet, UNetConfig
from ...sampling.schedule import MAX_TIMESTEP, Prediction, Schedule, Target
from .denoising import NoisyPairs, ScheduledUNet, draw_noise, sample_plainly, snr_weight
from .picture_losses import DISCRIMINATOR, EstimateLossConfig, EstimateLosses, add_up
from .setup import Examples, TaskSetup

_CHECKED = 256  # held-out pairs that are measured
_CHUNK = 32
# Of the way to a picture that is looked at: evaluations before the last, and the noisiest timestep that it may end at.
_STEPS_BEFORE, _NOISIEST_END = (2, 9), 0.75 * MAX_TIMESTEP


@dataclass(frozen=True, kw_only=True)
class LdmTaskConfig(EstimateLossConfig):
    """What the diffusion model learns.

    Attributes:
        batch_size: pairs in a step.
        prediction: what the network predicts.
        target: what is diffused: the picture's latent, or what it has more than the low-quality one (decision D36).
        snr_gamma: of min-SNR weighting (Hang et al. 2023); None weighs all noise levels alike.
        perceptual_weight, adversarial_weight, feature_weight, discriminator, discriminator_width, perceptual_items,
            perceptual_crop:
            see `EstimateLossConfig`; a model is finished with them when it has learnt to denoise.
        looks_at: estimates of noisy truths, those that the loss is of; or such as the model meets on its own way from
            noise to picture, of the first `perceptual_items` of a batch, in so many even steps to such a level as are
            drawn: of levels that are always the same it would learn those alone (decision D78).
    """

    batch_size: Batch = 32
    prediction: Prediction = "v"
    target: Target = "picture"
    snr_gamma: float | None = None
    looks_at: Literal["noisy", "sampled"] = "noisy"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.snr_gamma is not None and not 0 < self.snr_gamma < float("inf"):
            raise ConfigError(f"snr_gamma must be above 0, got {self.snr_gamma}")


class Watched(NamedTuple):
    """What a run is watched by, always the same: held-out pictures to restore, look at and measure.

    Attributes:
        truth, low_quality: of the same size, uint8 `[N,3,S,S]`.
        metrics: of what is restored, besides PSNR, and ST-LPIPS where stlpips-pytorch is installed.
    """

    truth: Tensor
    low_quality: Tensor
    metrics: Sequence[Metric] = ()


class LdmTask:
    """A `Task` of the loop; the autoencoder is frozen and goes into the exported file.

    Args:
        net: shape of the UNet.
        config: what it learns.
        autoencoder: that made the pairs, on the processor's device.
        pairs: to train on, and latents to measure the loss on.
        watched: what to restore and look at.
        setup: where it is trained; its fact `scales`, smallest and largest of what the pairs were made smaller by, goes
            into the exported file.
    """

    name = "ldm"
    averaged: tuple[str, ...] = ("unet",)

    def __init__(
        self,
        net: UNetConfig,
        config: LdmTaskConfig,
        autoencoder: Autoencoder,
        pairs: Examples[PairSource, LatentPairs],
        watched: Watched,
        setup: TaskSetup,
    ) -> None:
        processor = setup.processor
        torch.manual_seed(setup.seed)
        self.config, self.processor, self.seed = config, processor, setup.seed
        self.scales = cast(tuple[float, float] | None, setup.facts.get("scales"))
        self.truth, self.low_quality = (processor.place(part).float().div(255) for part in watched[:2])
        self.metrics = watched.metrics
        self.distance = _perceptual(processor)
        self.schedule = Schedule(config.prediction, config.target)
        self.pairs, self.held_out = pairs.train, pairs.held_out
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        self.networks = nn.ModuleDict({"unet": processor.install(UNet(net))})
        self.seen = EstimateLosses(config, self.autoencoder, processor)
        if self.seen.discriminator is not None:
            self.networks[DISCRIMINATOR] = self.seen.discriminator
        self._is_recorded = False

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """One batch of pairs, each at a noise level of its own."""
        gt, lq = self.pairs.draw(step, self.config.batch_size)
        if not self._is_recorded:
            self._scheduled(self.networks).record(gt)
            self._is_recorded = True
        pairs = self._noisy(gt, lq, step)
        error, denoised = self._scheduled(self.networks).learn(pairs)
        loss = (self._weight(pairs) * error).mean()
        if not self.seen.looks:
            yield "unet", {"total": loss}
            return
        made, truth = self._look(pairs, denoised, step)
        terms = [(1.0, "error", loss), *self.seen.losses.terms(made, truth)]
        yield "unet", {"total": add_up(terms), **{name: value for _, name, value in terms}}
        yield from self.seen.losses.turns(made, truth)

    def _scheduled(self, networks: nn.ModuleDict) -> ScheduledUNet:
        return ScheduledUNet(cast(UNet, networks["unet"]), self.schedule, self.processor)

    def _look(self, pairs: NoisyPairs, denoised: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Pictures to be judged and their truths; `denoised` are the estimates that the pairs' loss is of."""
        rng = np.random.default_rng([self.seed, step])
        if self.config.looks_at == "noisy":
            rows = self.seen.least_noisy(pairs.timesteps)
            return self.seen.decode(denoised[rows], pairs.gt[rows], rng)
        few, generator = slice(self.config.perceptual_items), self.processor.generator(self.seed + 2, step)
        lq = pairs.lq[few]
        ends = torch.rand(len(lq), generator=generator, device=lq.device) * _NOISIEST_END
        sampled = self._sample(lq, pairs.noise[few], ends, int(rng.integers(*_STEPS_BEFORE)))
        return self.seen.decode(sampled, pairs.gt[few], rng)

    def _sample(self, lq: Tensor, noise: Tensor, ends: Tensor, before: int) -> Tensor:
        """Estimates of x0 `[N,C,h,w]` at timesteps `ends` `[N]`; only the evaluation that makes them has gradients.

        The way there is `before` even steps from the noisiest level, by Euler.
        """
        net, noisiest = self._scheduled(self.networks), MAX_TIMESTEP - 1.0

        def level(number: int) -> Tensor:
            return self.schedule.timestep_to_sigma(noisiest + (ends - noisiest) * (number / before))

        sigma = level(0)
        x = self.schedule.add_noise(lq, noise, sigma)
        with net.unrecorded():
            with torch.no_grad():
                for number in range(before):
                    sigma_next = level(number + 1)
                    share = (sigma_next / sigma)[:, None, None, None]
                    x, sigma = torch.lerp(net.estimate(x, lq, sigma), x, share), sigma_next
            return net.estimate(x, lq, sigma)

    def _noisy(self, gt: Tensor, lq: Tensor, step: int) -> NoisyPairs:
        # A stream of its own: the pairs' draws come from the step's, too.
        timesteps, noise = draw_noise(gt, self.processor.generator(self.seed + 1, step))
        return NoisyPairs(gt, lq, noise, timesteps)

    def _weight(self, pairs: NoisyPairs) -> Tensor:
        """Of each squared error in the loss, `[B]`."""
        return snr_weight(self.schedule, self.schedule.timestep_to_sigma(pairs.timesteps), self.config.snr_gamma)

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """What the averaged weights are worth on held-out photographs, always the same with the same noise.

        Squared errors of latents, weighted as in training and not; of restored pictures PSNR in dB, ST-LPIPS where
        stlpips-pytorch is installed, and what else is to be watched, without those of which it is undefined.
        """
        rows = []
        for start, (gt, lq) in self.held_out.chunks(_CHUNK, _CHECKED):
            pairs = self._noisy(self.processor.place(gt), self.processor.place(lq), start)
            error, _ = self._scheduled(networks).learn(pairs)
            rows.append(torch.stack([(self._weight(pairs) * error).mean(), error.mean()]))
        loss, error = torch.stack(rows).mean(dim=0).tolist()
        made = self.restore(networks, self.low_quality)
        figures = {"loss": loss, "error": error}
        figures["psnr"] = float(psnr(made, self.truth).mean())
        if self.distance is not None:
            figures["st_lpips"] = float(self.distance(made, self.truth).mean())
        for metric in self.metrics:
            figures[metric.info.name] = float(metric(made, self.truth).nanmean())
        return figures

    def restore(self, networks: nn.ModuleDict, low_quality: Tensor, steps: int = 12) -> Tensor:
        """Pictures `[N,3,H,W]` in [0,1], restored in a few plain steps: the same size, in [0,1]."""
        net, lq = self._scheduled(networks), self.autoencoder.encode(low_quality)
        made = sample_plainly(lambda x, sigma: net.predict(x, lq, sigma), self.schedule, lq, self.seed, steps)
        return self.autoencoder.decode(made).clamp(0, 1)

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Low-quality inputs over restored pictures over the truth, always the same."""
        rows = (self.low_quality, self.restore(networks, self.low_quality), self.truth)
        return make_sheet([list(pictures) for pictures in rows])

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `ldm`: UNet, autoencoder, and what the network predicts of what."""
        save_ldm(cast(UNet, networks["unet"]), self.autoencoder, self.schedule, path, facts, self.scales)


def _perceptual(processor: Processor) -> StLpips | None:
    try:
        return processor.install(StLpips())
    except MissingExtraError:
        return None


def save_ldm(
    unet: UNet,
    autoencoder: Autoencoder,
    schedule: Schedule,
    path: Path,
    facts: Mapping[str, object],
    scales: tuple[float, float] | None = None,
) -> None:
    """Write a weights file of kind `ldm`: UNet, autoencoder, what the network predicts of what, and at which scales."""
    tensors = name_weights(unet, UNET_PREFIX) | name_weights(autoencoder, AUTOENCODER_PREFIX)
    config = {
        "unet": unet.config.to_dict(),
        "autoencoder": autoencoder.config.to_dict(),
        "schedule": schedule.to_dict(),
        **({} if scales is None else {"scales": list(scales)}),
    }
    save_checkpoint(Checkpoint("ldm", config, tensors, facts), path)


def load_autoencoder(path: Path) -> Autoencoder:
    """The autoencoder of a weights file of any kind that has one.

    Raises:
        CheckpointError: the file cannot be used.
    """
    return open_networks(path, "autoencoder", "ldm", "bundle").build(Autoencoder, "cpu", torch.float32)
