"""Fine-tuning Stable Diffusion on photographs, with feature injection trained beside it.

Source: section 4.1. A UNet of 4 input channels is told of the low-quality latent by PFJ (section 3.4), which needs
no other input and starts as nothing; one that has room for a second latent is shown it there, and has no PFJ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...config import Batch, Config
from ...data.latent_pairs import LatentPairs
from ...drawing.charts import make_sheet
from ...errors import ConfigError
from ...gain.information import GAIN_SPAN, information_gain
from ...gain.statistics import LatentStatistics
from ...models.checkpoint import Checkpoint, name_weights, save_checkpoint
from ...models.ldm_format import LdmCheckpoint, replace_unet
from ...models.networks import PFJ_PREFIX
from ...nets.autoencoder import Autoencoder
from ...nets.pfj import Pfj, PfjConfig
from ...nets.unet import UNet
from ...sampling.schedule import MAX_TIMESTEP, Schedule
from ...text import quoted
from .denoising import draw_noise, sample_plainly
from .latent_colours import RoughDecoder
from .setup import Examples, TaskSetup

_SPAN = round(GAIN_SPAN * MAX_TIMESTEP)
_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class FinetuneTaskConfig(Config):
    """What the diffusion model learns.

    Attributes:
        batch_size: pairs in a pass.
        prediction: what the network predicts; `auto` finds it in the checkpoint, as the host does.
        gain: what PFJ is told in training: real gains, by `LatentStatistics` from two more evaluations of the network
            at noisier levels of the same picture; or `none`, for models that will be sampled in equal steps.
        pfj_width: of PFJ's features; 160 is 4.7 M parameters.
        checkpointing: compute activations again in the backward pass rather than keep them.
    """

    batch_size: Batch = 1
    prediction: Literal["auto", "eps", "v"] = "auto"
    gain: Literal["statistics", "none"] = "statistics"
    pfj_width: int = 160
    checkpointing: bool = True

    def __post_init__(self) -> None:
        if self.gain not in ("statistics", "none"):
            raise ConfigError(f"gain {quoted(self.gain, 80)} is unknown; use statistics or none")
        super().__post_init__()
        if min(self.batch_size, self.pfj_width) < 1:
            raise ConfigError(
                f"batch_size and pfj_width must be at least 1, got {self.batch_size} and {self.pfj_width}"
            )


class FinetuneTask:
    """A `Task` of the loop: UNet and PFJ as one network, so that they share every step.

    Args:
        source: the checkpoint to begin with; the exported one is a copy of it with other UNet weights.
        config: what is learnt.
        context: the empty prompt's embedding, `[1,T,context_dim]`.
        pairs: latents of the checkpoint's own autoencoder.
        painter: makes pictures of latents for the sheets.
        setup: where it is trained.

    Raises:
        ConfigError: the UNet has room for neither the noisy latent alone nor for two.
    """

    name = "finetune"
    averaged: tuple[str, ...] = ("model",)

    def __init__(
        self,
        source: LdmCheckpoint,
        config: FinetuneTaskConfig,
        context: Tensor,
        pairs: Examples[LatentPairs, LatentPairs],
        painter: Autoencoder | RoughDecoder,
        setup: TaskSetup,
    ) -> None:
        processor = setup.processor
        torch.manual_seed(setup.seed)
        self.source, self.config, self.context = source, config, processor.place(context)
        self.pairs, self.held_out, self.painter = pairs.train, pairs.held_out, processor.install(painter)
        self.seed, self.processor = setup.seed, processor
        self.prediction = source.detect_prediction() if config.prediction == "auto" else config.prediction
        self.schedule, self.statistics = Schedule(self.prediction), LatentStatistics()
        unet = source.load_unet()
        unet.checkpointing = config.checkpointing
        parts: dict[str, nn.Module] = {"unet": unet}
        latent = unet.config.out_channels
        if unet.config.in_channels == latent:
            parts["pfj"] = Pfj(PfjConfig(latent_channels=latent, channels=unet.config.widths, width=config.pfj_width))
        elif unet.config.in_channels != 2 * latent:
            raise ConfigError(
                f"the UNet has {unet.config.in_channels} input channels; {latent} (with feature injection) or "
                f"{2 * latent} (with the low-quality latent beside the noisy one) can be trained"
            )
        self.networks = nn.ModuleDict({"model": processor.install(nn.ModuleDict(parts))})

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """One batch of pairs, each at a noise level of its own."""
        rng = np.random.default_rng([self.seed, step])
        drawn = self.pairs.draw(rng, self.config.batch_size)
        yield "model", {"total": self._loss(_Model(self.networks), drawn, self.processor.generator(self.seed, step))}

    def _loss(self, model: "_Model", drawn: tuple[Tensor, Tensor], generator: torch.Generator | None) -> Tensor:
        gt, lq = map(self.processor.place, drawn)
        timesteps, noise = draw_noise(gt, generator)
        gain = self._gain(model, gt, lq, noise, timesteps)
        sigma = self.schedule.timestep_to_sigma(timesteps)
        output = self._predict(model, self.schedule.add_noise(gt, noise, sigma), sigma, lq, gain)
        return (output - self.schedule.training_target(gt, noise, sigma)).square().mean()

    def _predict(self, model: "_Model", x: Tensor, sigma: Tensor, lq: Tensor, gain: Tensor) -> Tensor:
        """The network's output, float32."""
        inputs = self.schedule.scale_input(x, sigma)
        context = self.context.expand(len(x), -1, -1)
        shown = self.schedule.sigma_to_timestep(sigma)
        # Casts are not kept: all of them together would be half the size of the weights.
        with self.processor.autocast(kept=False):
            if model.pfj is None:
                return cast(Tensor, model.unet(torch.cat([inputs, lq], dim=1), shown, context=context)).float()
            return cast(Tensor, model.unet(inputs, shown, model.pfj(lq, gain), context)).float()

    @torch.no_grad()
    def _gain(self, model: "_Model", gt: Tensor, lq: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the sampler would know by now, `[B,2]`: the gain between two evaluations before this one.

        Both lie one twentieth of the denoising apart. Zeros near the start, where there were no two.
        """
        known = torch.zeros(len(gt), 2, device=gt.device)
        if model.pfj is None or self.config.gain == "none":
            return known
        before, now = timesteps + 2 * _SPAN, timesteps + _SPAN
        levels = torch.cat([before, now]).clamp_max(MAX_TIMESTEP - 1)
        sigma = self.schedule.timestep_to_sigma(levels)
        twice_lq = torch.cat([lq, lq])
        x = self.schedule.add_noise(torch.cat([gt, gt]), torch.cat([noise, noise]), sigma)
        output = self._predict(model, x, sigma, twice_lq, torch.cat([known, known]))
        denoised = self.schedule.output_to_denoised(output, x, sigma)
        first, second = self.statistics.quality(denoised, twice_lq, sigma).chunk(2)
        gain = information_gain(second, first, torch.full_like(sigma[: len(gt)], GAIN_SPAN))
        # Section 3.3: the no-reference gain counts in the second half only.
        counts = torch.stack([torch.ones_like(now), now < MAX_TIMESTEP // 2], dim=1)
        return gain * counts * (before < MAX_TIMESTEP)[:, None]

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """The loss on held-out pairs, always with the same noise."""
        model, size = _Model(self.processor.borrow(networks)), self.config.batch_size
        generator = self.processor.generator(self.seed, 0)
        found = [(self._loss(model, drawn, generator), len(drawn[0])) for _, drawn in self.held_out.chunks(size)]
        losses, counts = zip(*found, strict=True)
        return {"loss": float(np.average(torch.stack(losses).tolist(), weights=counts))}

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Low-quality inputs over restored pictures over the truth."""
        model = _Model(self.processor.borrow(networks))
        gt, lq = map(self.processor.place, self.held_out.take(np.arange(min(_SHOWN, self.held_out.count))))
        gain = lq.new_zeros(len(lq), 2)
        made = sample_plainly(lambda x, sigma: self._predict(model, x, sigma, lq, gain), self.schedule, lq, self.seed)
        return make_sheet([list(self.painter.decode(latent)) for latent in (lq, made, gt)])

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """Beside `path`: `checkpoint.safetensors` of the source's format and, if it was trained, `pfj.safetensors`."""
        model = _Model(networks)
        replace_unet(self.source.path, path.with_name("checkpoint.safetensors"), model.unet.state_dict())
        if model.pfj is not None:
            tensors = name_weights(model.pfj, PFJ_PREFIX)
            known = {**facts, "finetuned": self.source.path.name, "prediction": self.prediction}
            checkpoint = Checkpoint("pfj", {"pfj": model.pfj.config.to_dict()}, tensors, known)
            save_checkpoint(checkpoint, path.with_name("pfj.safetensors"))


class _Model:
    """The parts of `FinetuneTask.networks`, or of their average."""

    def __init__(self, networks: nn.ModuleDict) -> None:
        parts = cast(nn.ModuleDict, networks["model"])
        self.unet = cast(UNet, parts["unet"])
        self.pfj = cast(Pfj, parts["pfj"]) if "pfj" in parts else None
