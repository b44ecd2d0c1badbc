"""How far tiles stray where steps are skipped: walks whose end by all steps is known, and a regression on them.

The regressor stays as it is; what it sees of a tile (`Mmle.look`) also tells its difficulty, by ridge regression.

Source: decision D71.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import ConfigError
from ...gain.mmle import MmleEstimator
from ...models.model import Model
from ...nets.mmle import Mmle
from ...pipeline import sample_latent
from ...settings import SamplingConfig

EVALUATIONS = 7  # of the run whose error is a tile's difficulty
_LEAST_ERROR = 1e-9


@dataclass(frozen=True)
class Ends:
    """Walks whose end is known.

    Attributes:
        seen: what the regressor sees at each visit, `[W,V,hidden]`: those of all steps, then those of the short walk.
        difficulty: log10 of the mean squared error that the short walk ends with, levels in [0,1], `[W]`.
    """

    seen: Tensor
    difficulty: Tensor


class _Watched(MmleEstimator):
    """Keeps what the regressor sees, and tells no difficulty, so that all tiles go the same way."""

    def __init__(self, mmle: Mmle) -> None:
        super().__init__(mmle)
        self.seen: list[Tensor] = []

    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        self.seen.append(self.mmle.look(denoised, lq_latent, sigma).cpu())
        return super().quality(denoised, lq_latent, sigma)[:, :2]


@torch.inference_mode()
def walk_ends(
    model: Model,
    dataset: Dataset[tuple[Tensor, Tensor]],
    sampling: SamplingConfig,
    batches: Sequence[Sequence[int]],
    on_step: Callable[[int], None] = lambda more: None,
) -> Ends:
    """Sample degraded tiles with all steps, and with `EVALUATIONS` evenly spread.

    Gain is told to feature injection in both, as when a picture is made: what it injects by depends on the steps.

    Args:
        model: the networks, the regressor among them.
        dataset: of pairs `(gt, lq)`, uint8 `[3,H,W]`, squares of one size.
        sampling: schedule, solver and seed; every batch has a noise of its own.
        batches: numbers of the pairs, those that go side by side together.
        on_step: told how many more walks are done.

    Raises:
        ConfigError: the model has no regressor.
    """
    if model.mmle is None:
        raise ConfigError("the model holds no regressor to teach")
    seen, errors = [], []
    for number, batch in enumerate(batches):
        lq = torch.stack([dataset[pair][1] for pair in batch])
        lq_latent = model.encode(lq.to(model.device).float() / 255)
        config = replace(
            sampling,
            seed=sampling.seed + number,
            tile_size=lq.shape[-1],
            overlap=0,
            tile_fit=False,
            tile_batch=len(batch),
        )
        short = replace(config, dtss=replace(config.dtss, rule="bounded", budget=float(EVALUATIONS)))
        watched, ends = _Watched(model.mmle), []
        for way in (config.every_step(), short):
            sampled = sample_latent(replace(model, estimator=watched), lq_latent, way)
            ends.append(model.decode(sampled.latent).clamp(0, 1))
        seen.append(torch.stack(watched.seen, dim=1))
        errors.append((ends[0] - ends[1]).square().mean(dim=(1, 2, 3)).cpu())
        on_step(len(batch))
    return Ends(torch.cat(seen), torch.cat(errors).clamp_min(_LEAST_ERROR).log10())


def fit_difficulty(mmle: Mmle, ends: Ends, penalty: float = 0.5) -> Mmle:
    """The same regressor, which now tells difficulty too: ridge regression on all visits.

    Args:
        mmle: the regressor that `ends` was seen by.
        ends: to learn from.
        penalty: of the weights of standardised features, relative to the number of visits.

    Raises:
        ConfigError: there are fewer than two walks.
    """
    walks, visits, width = ends.seen.shape
    if walks < 2:
        raise ConfigError(f"difficulty is learnt from at least two walks, got {walks}")
    rows, wanted = ends.seen.flatten(0, 1).double(), ends.difficulty.double().repeat_interleave(visits)
    mean, spread = rows.mean(dim=0), rows.std(dim=0) + 1e-3
    rows = (rows - mean) / spread
    gram = rows.T @ rows + penalty * len(rows) * torch.eye(width, dtype=torch.double)
    weight = torch.linalg.solve(gram, rows.T @ (wanted - wanted.mean())) / spread
    taught = Mmle(replace(mmle.config, difficulty=True))
    state = {**mmle.state_dict(), "difficulty.weight": weight.float()[None]}
    state["difficulty.bias"] = (wanted.mean() - mean @ weight).float()[None]
    taught.load_state_dict(state)
    return taught.to(next(mmle.parameters()).device).eval().requires_grad_(False)


def guess_difficulty(mmle: Mmle, ends: Ends) -> Tensor:
    """What a regressor that tells difficulty makes of walks, `[W,V]`."""
    if mmle.difficulty is None:
        raise ConfigError("this regressor tells no difficulty")
    with torch.inference_mode():
        guess: Tensor = mmle.difficulty(ends.seen.to(mmle.difficulty.weight.device)).squeeze(-1)
    return guess.cpu()
