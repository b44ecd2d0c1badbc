"""Training a decoder on what the sampler makes, so that it paints well from that, and not from true latents alone.

A decoder that has only seen what its encoder makes takes every stray value of a sampled latent for a detail. Shown what
is sampled beside the truth, it learns which of it to believe, for no more than it costs anyway. Latents stay what they
are, so the diffusion model, its regressor and its feature injection need not know.

Source: decision D86.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import Batch
from ...data.degradation.ranges import check_probabilities
from ...drawing.charts import make_sheet
from ...errors import ConfigError
from ...models.checkpoint import Checkpoint, name_weights, save_checkpoint
from ...models.networks import AUTOENCODER_PREFIX
from ...nets.autoencoder import Autoencoder
from ..walks.sampled import SampledPairs
from .losses import gradient_l1
from .picture_losses import DISCRIMINATOR, LEAST_CROP, LookerConfig, Term, add_up, gather_lookers
from .setup import Examples, TaskSetup

_CHECKED = 64  # held-out pairs that are measured
_CHUNK = 8
_SHOWN = 6
_LEAST_ERROR = 1e-6  # 60 dB: a plain black picture may come back exact, and others are to count


@dataclass(frozen=True, kw_only=True)
class DecoderTaskConfig(LookerConfig):
    """What the decoder learns.

    Attributes:
        batch_size: squares in a step that are decoded from sampled latents.
        encoded_share: of their truths, how many are encoded and decoded besides, so that a picture still comes back.
        crop: side of the squares, latent px.
        gradient_weight: of the loss on differences of neighbouring pixels; plain L1 has weight 1.
        encoded_weight: of both, of what was encoded.
        perceptual_weight, adversarial_weight, feature_weight, discriminator, discriminator_width: who looks at all that
            is decoded; see `LookerConfig`. Looking at what is sampled alone would blur what is not (decision D86).
    """

    batch_size: Batch = 6
    encoded_share: float = 0.5
    crop: int = 16
    gradient_weight: float = 1.0
    encoded_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probabilities({"encoded_share": self.encoded_share})
        if self.batch_size < 1 or self.crop < LEAST_CROP:
            raise ConfigError(
                f"batch_size must be at least 1 and crop {LEAST_CROP}, got {self.batch_size} and {self.crop}"
            )


class DecoderTask:
    """A `Task` of the loop.

    Args:
        autoencoder: whose decoder learns on; its encoder stays as it is.
        config: what it learns.
        pairs: sampled by a model with that autoencoder.
        setup: where it is trained; its facts are of the model.

    Raises:
        MissingExtraError: see `gather_lookers`.
    """

    name = "decoder"
    averaged: tuple[str, ...] = ("autoencoder",)

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: DecoderTaskConfig,
        pairs: Examples[SampledPairs, SampledPairs],
        setup: TaskSetup,
    ) -> None:
        torch.manual_seed(setup.seed)
        self.config, self.pairs, self.held_out = config, pairs.train, pairs.held_out
        self.processor, self.seed, self.facts = setup.processor, setup.seed, setup.facts
        trained = setup.processor.install(copy.deepcopy(autoencoder))
        trained.encoder.requires_grad_(False)
        trained.decoder.requires_grad_(True)
        self.networks = nn.ModuleDict({"autoencoder": trained})
        self.lookers = gather_lookers(config, setup.processor)
        if self.lookers.discriminator is not None:
            self.networks[DISCRIMINATOR] = self.lookers.discriminator

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """The decoder, then (if it takes part) the discriminator on the same pictures."""
        rng, config = np.random.default_rng([self.seed, step]), self.config
        latent, truth = map(self.processor.place, self.pairs.draw(rng, config.batch_size, config.crop))
        again = truth[: round(config.batch_size * config.encoded_share)]
        wanted = torch.cat([truth, again])
        autoencoder = cast(Autoencoder, self.networks["autoencoder"])
        with self.processor.autocast():
            shown = [latent]
            if len(again):
                with torch.no_grad():
                    shown.append(autoencoder.encode(again).float())
            made = autoencoder.decode(torch.cat(shown)).float()
        terms = self._differences(made[: len(truth)], truth, 1.0, "")
        if len(again):
            terms += self._differences(made[len(truth) :], again, config.encoded_weight, "encoded_")
        terms += self.lookers.terms(made, wanted)
        yield "autoencoder", {"total": add_up(terms), **{name: value for _, name, value in terms}}
        yield from self.lookers.turns(made, wanted)

    def _differences(self, made: Tensor, truth: Tensor, weight: float, prefix: str) -> list[Term]:
        return [
            (weight, f"{prefix}l1", F.l1_loss(made, truth)),
            (weight * self.config.gradient_weight, f"{prefix}gradient", gradient_l1(made, truth)),
        ]

    @torch.no_grad()
    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """PSNR in dB of held-out pictures, from sampled latents and from their own; ST-LPIPS of both where it takes
        part.
        """
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        found: list[dict[str, Tensor]] = []
        for start in range(0, min(_CHECKED, self.held_out.count), _CHUNK):
            chosen = range(start, min(start + _CHUNK, self.held_out.count, _CHECKED))
            latent, truth = map(self.processor.place, self.held_out.take(chosen))
            values = {}
            for name, shown in (("sampled", latent), ("round_trip", autoencoder.encode(truth))):
                made = autoencoder.decode(shown).clamp(0, 1)
                error = (made - truth).square().mean(dim=(1, 2, 3)).clamp_min(_LEAST_ERROR)
                values[f"{name}_db"] = -10 * error.log10()
                if (distance := self.lookers.distance) is not None:
                    values[f"{name}_st_lpips"] = distance(made, truth)
            found.append(values)
        return {name: float(torch.cat([values[name] for values in found]).mean()) for name in found[0]}

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """What the decoder paints from sampled latents, over the truth, at full size."""
        latent, truth = map(self.processor.place, self.held_out.take(range(min(_SHOWN, self.held_out.count))))
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        return make_sheet([list(autoencoder.decode(latent)), list(truth)])

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `autoencoder`, to be joined with the model's other networks."""
        autoencoder = cast(Autoencoder, networks["autoencoder"])
        config = {"autoencoder": autoencoder.config.to_dict()}
        tensors = name_weights(autoencoder, AUTOENCODER_PREFIX)
        save_checkpoint(Checkpoint("autoencoder", config, tensors, {**facts, **self.facts}), path)
