"""Training the MMLE regressor on walks whose metrics were measured.

Source: section 3.2 and 4.1. L2 on the metrics as in the paper, and on their differences between
consecutive visits, since gain is a difference.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...config import Batch, Config
from ...drawing.charts import draw_scatter
from ...errors import ConfigError
from ...metrics.base import normalise_metrics
from ...metrics.registry import metric_info
from ...models.checkpoint import Checkpoint, name_weights, save_checkpoint
from ...models.networks import MMLE_PREFIX
from ...nets.mmle import Mmle, MmleConfig
from ...sampling.agreement import compare_classes, compare_metrics
from ...settings import SamplingConfig
from ..walks.walks import WalkCache
from .setup import Examples, TaskSetup

# Of the measured values, in per cent: what 0 and 1 stand for. Beyond lie odd pictures that would squeeze all others.
RANGE_PERCENT = (1.0, 99.0)
_CHUNK = 64  # estimates at once where nothing is learnt


@dataclass(frozen=True, kw_only=True)
class MmleTaskConfig(Config):
    """What the regressor learns.

    Attributes:
        batch_size: pairs of consecutive visits in a step, each of a walk of its own if there are enough.
        change_weight: of the loss on differences.
        turned: show latents in one of eight orientations, which changes the metrics little.
    """

    batch_size: Batch = 32
    change_weight: float = 4.0
    turned: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1 or not 0 <= self.change_weight < math.inf:
            raise ConfigError(
                f"batch_size must be at least 1 and change_weight a number from 0 up, got {self.batch_size} and "
                f"{self.change_weight}"
            )


@dataclass(frozen=True)
class RatedWalks:
    """Walks and the metrics of their estimates.

    Attributes:
        cache: the walks.
        values: `[W,V,M]` float32, each metric's own; NaN where undefined.
    """

    cache: WalkCache
    values: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Numbers of the walks whose every value is defined."""
        return np.flatnonzero(np.isfinite(self.values).all(axis=(1, 2)))


def choose_metrics(names: Iterable[str]) -> dict[str, Any]:
    """Settings of an `MmleConfig` for these metrics, with equal weights and their general ranges.

    Raises:
        ConfigError: a name is unknown.
    """
    infos = sorted((metric_info(name) for name in names), key=lambda info: not info.needs_reference)
    full = [info.name for info in infos if info.needs_reference]
    none = [info.name for info in infos if not info.needs_reference]
    return {
        "fr_metrics": full,
        "nr_metrics": none,
        "fr_weights": [1.0] * len(full),
        "nr_weights": [1.0] * len(none),
        "worst": [info.worst for info in infos],
        "best": [info.best for info in infos],
    }


def fit_range(config: MmleConfig, walks: RatedWalks) -> MmleConfig:
    """The config with `worst` and `best` as measured: the `RANGE_PERCENT` of all values.

    Raises:
        ConfigError: no walk is usable, or a metric has one value throughout.
    """
    if len(walks.usable) == 0:
        raise ConfigError("no walk has all metrics defined; its photographs may be flat, use others")
    low, high = np.percentile(walks.values[walks.usable], RANGE_PERCENT, axis=(0, 1)).tolist()
    rising = [metric_info(name).higher_is_better for name in config.metrics]
    worst = tuple(a if up else b for a, b, up in zip(low, high, rising, strict=True))
    best = tuple(b if up else a for a, b, up in zip(low, high, rising, strict=True))
    return replace(config, worst=worst, best=best)


class MmleTask:
    """A `Task` of the loop.

    Args:
        net: shape and metrics; `worst` and `best` are taken from `walks`.
        config: what to learn.
        walks: rated.
        sampling: of the walks; its rule is the one by which agreement of classes is measured.
        setup: where it is trained; its facts are of the walks and metrics.
    """

    name = "mmle"
    averaged: tuple[str, ...] = ("mmle",)

    def __init__(
        self,
        net: MmleConfig,
        config: MmleTaskConfig,
        walks: Examples[RatedWalks, RatedWalks],
        sampling: SamplingConfig,
        setup: TaskSetup,
    ) -> None:
        torch.manual_seed(setup.seed)
        self.net, self.config, self.sampling = fit_range(net, walks.train), config, sampling
        self.seed, self.processor, self.facts = setup.seed, setup.processor, setup.facts
        self.walks, self.held_out = walks.train, walks.held_out
        self.networks = nn.ModuleDict({"mmle": self.processor.install(Mmle(self.net))})

    def turns(self, step: int) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """One batch of pairs of consecutive visits."""
        rng = np.random.default_rng([self.seed, step])
        usable, cache = self.walks.usable, self.walks.cache
        count = self.config.batch_size
        walk = rng.choice(usable, size=count, replace=count > len(usable))[:, None]
        visit = rng.integers(cache.index.shape[1] - 1, size=(count, 1)) + np.arange(2)
        denoised, lq_latent, sigma = self._load(cache, walk, visit)
        if self.config.turned:
            denoised, lq_latent = _turn((denoised, lq_latent), int(rng.integers(8)))
        true = self.processor.place(self._normalise(self.walks.values[walk, visit]))
        predicted = self._predict(cast(Mmle, self.networks["mmle"]), denoised, lq_latent, sigma)
        value = (predicted - true).square().mean()
        change = (predicted.diff(dim=1) - true.diff(dim=1)).square().mean()
        yield "mmle", {"total": value + self.config.change_weight * change, "value": value, "change": change}

    def _normalise(self, values: np.ndarray) -> Tensor:
        return normalise_metrics(torch.from_numpy(values), self.net.worst, self.net.best)

    def _predict(self, mmle: Mmle, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """`[B,V,M]` of latents `[B,V,C,h,w]` and levels `[B,V]`."""
        rows = [part.flatten(0, 1).contiguous(memory_format=torch.channels_last) for part in (denoised, lq_latent)]
        with self.processor.autocast():
            values: Tensor = mmle(*rows, sigma.flatten())
        return values.reshape(*sigma.shape, -1)

    def _load(self, cache: WalkCache, walk: np.ndarray, visit: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Estimates and low-quality latents `[B,V,C,h,w]` and levels `[B,V]`, all float32 and on the device.

        Args:
            cache: of the walks.
            walk: numbers `[B,1]`.
            visit: numbers `[B,V]` or `[1,V]`.
        """
        stored = cache.denoised[walk, visit], cache.lq_latent[walk], cache.sigma[walk, visit]
        denoised, lq_latent, sigma = (self.processor.place(torch.from_numpy(part)).float() for part in stored)
        return denoised, lq_latent.expand_as(denoised), sigma

    @torch.inference_mode()
    def rate_held_out(self, networks: nn.ModuleDict) -> tuple[Tensor, Tensor, Tensor]:
        """Predicted and true normalised metrics `[W,V,M]` of held-out walks, their base indices `[W,V]`; on the CPU."""
        cache, usable = self.held_out.cache, self.held_out.usable
        mmle, visits = cast(Mmle, networks["mmle"]), cache.index.shape[1]
        chunk, predicted = max(1, _CHUNK // visits), []
        for start in range(0, len(usable), chunk):
            walk, visit = usable[start : start + chunk, None], np.arange(visits)[None]
            predicted.append(self._predict(mmle, *self._load(cache, walk, visit)))
        true = self._normalise(self.held_out.values[usable])
        return torch.cat(predicted).cpu(), true, torch.from_numpy(cache.index[usable])

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """Agreement with the metrics on held-out photographs."""
        predicted, true, index = self.rate_held_out(networks)
        figures = {"loss": float((predicted - true).square().mean())}
        steps = self.sampling.steps
        figures |= compare_metrics(predicted, true, index, self.net, steps)
        return figures | compare_classes(predicted, true, index, self.net, self.sampling.dtss, steps)

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """Predicted over true, a panel for each metric."""
        predicted, true, index = self.rate_held_out(networks)
        panels = {
            name: (true[..., place].flatten().numpy(), predicted[..., place].flatten().numpy())
            for place, name in enumerate(self.net.metrics)
        }
        return draw_scatter(panels, index.flatten().numpy())

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """A weights file of kind `mmle`, with what it was taught and how well it learnt it."""
        held_out = {name: round(value, 4) for name, value in self.check(networks).items() if math.isfinite(value)}
        tensors = name_weights(networks["mmle"], MMLE_PREFIX)
        facts = {**facts, **self.facts, "held_out": held_out}
        save_checkpoint(Checkpoint("mmle", {"mmle": self.net.to_dict()}, tensors, facts), path)


def _turn(latents: tuple[Tensor, Tensor], orientation: int) -> tuple[Tensor, Tensor]:
    """Latents `[...,h,h]` in one of eight orientations."""
    first, second = (latent.rot90(orientation % 4, dims=(-2, -1)) for latent in latents)
    return (first.flip(-1), second.flip(-1)) if orientation >= 4 else (first, second)
