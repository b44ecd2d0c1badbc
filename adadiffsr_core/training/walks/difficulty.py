"""How far tiles stray where steps are skipped: walks whose end by all steps is known, and a regression on them.

The regressor stays as it is; what it sees of a tile (`Mmle.look`) also tells its difficulty, by ridge regression.

Source: decisions D71 and D81.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ...data.tiles import TileDataset
from ...errors import ConfigError
from ...gain.mmle import MmleEstimator
from ...models.checkpoint import load_checkpoint, save_checkpoint
from ...models.networks import MMLE_PREFIX
from ...nets.mmle import Mmle
from ...sampling.agreement import spearman
from ...sampling.bounded import deviation_of
from ...sampling.denoiser import Denoiser
from ...sampling.noise import field_noise
from ...sampling.run import Start, run
from ...sampling.tiles import build_grid
from ...settings import SamplingConfig
from ..tasks.setup import Examples
from .walked_model import WalkedModel

EVALUATIONS = 7  # of the run whose error is a tile's difficulty
_LEAST_ERROR = 1e-9
_BATCH = 8


@dataclass(frozen=True)
class Ends:
    """Walks whose end is known.

    Attributes:
        seen: what the regressor sees at each visit, `[W,V,hidden]`: those of all steps, then those of the short walk.
        difficulty: log10 of the mean squared error that the short walk ends with, levels in [0,1], over its
            deviation, `[W]`.
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


def teach_difficulty(
    model: WalkedModel,
    mmle: Mmle,
    tiles: Examples[TileDataset, TileDataset],
    sampling: SamplingConfig,
    on_step: Callable[[int], None] = lambda more: None,
) -> tuple[Mmle, dict[str, object]]:
    """A regressor that tells difficulty too.

    Args:
        model: that is sampled, and that the regressor is of.
        mmle: the regressor, on the model's device.
        tiles: to learn from, and to measure on.
        sampling: schedule, solver and seed.
        on_step: told after each evaluation how many more walks are done; what it raises goes through.

    Returns:
        The regressor, and of the measured ones the rank correlation with what is so, and the error in the mean square,
        by visit of the short walk.

    Raises:
        ConfigError: there are fewer than two walks to learn from.
    """
    train = walk_ends(model, mmle, tiles.train, sampling, on_step)
    taught = fit_difficulty(mmle, train)
    ends = walk_ends(model, mmle, tiles.held_out, replace(sampling, seed=sampling.seed + 1), on_step)
    guess = guess_difficulty(taught, ends)[:, -EVALUATIONS:].T
    errors = [float((row - ends.difficulty).square().mean().sqrt()) for row in guess]
    return taught, {
        "walks": len(tiles.train),
        "seed": sampling.seed,
        "rank_correlation": [round(spearman(row, ends.difficulty), 3) for row in guess],
        "error": [round(error, 3) for error in errors],
    }


def write_difficulty(source: Path, taught: Mmle, facts: Mapping[str, object], out: Path) -> None:
    """Write a weights file again, with what its regressor has learnt besides; every other weight is the same bits.

    Args:
        source: of kind mmle or bundle.
        taught, facts: of `teach_difficulty`.
        out: where to; it may be the source.
    """
    file = load_checkpoint(source, "bundle", "mmle")
    head = {f"{MMLE_PREFIX}{key}": value for key, value in taught.state_dict().items() if key.startswith("difficulty")}
    described = {**file.config, "mmle": taught.config.to_dict()}
    learnt = {**file.facts, "difficulty": facts}
    save_checkpoint(replace(file, config=described, tensors={**file.tensors, **head}, facts=learnt), out)


def knows_difficulty(taught: Path, source: Path) -> bool:
    """Whether a file is what `write_difficulty` makes of another: the same weights and more."""
    known, wanted = (load_checkpoint(path, "bundle", "mmle").tensors for path in (taught, source))
    return all(name in known and torch.equal(known[name], value) for name, value in wanted.items())


@torch.inference_mode()
def walk_ends(
    model: WalkedModel,
    mmle: Mmle,
    tiles: TileDataset,
    sampling: SamplingConfig,
    on_step: Callable[[int], None] = lambda more: None,
) -> Ends:
    """Sample tiles with all steps, and by the rule's course of `EVALUATIONS`.

    Gain is told to feature injection in both, as when a picture is made: what it injects by depends on the steps.

    Args:
        model, mmle: see `teach_difficulty`.
        tiles: squares of one size.
        sampling: schedule, solver and seed; every batch has a noise of its own.
        on_step: told how many more walks are done.
    """
    strayed = float(deviation_of(torch.tensor(EVALUATIONS), sampling.steps)) or 1.0  # so few steps are all taken
    seen, difficulty = [], []
    with tqdm(total=len(tiles), desc="difficulty", mininterval=5) as bar:
        for first in range(0, len(tiles), _BATCH):
            lq = torch.stack([tiles[index] for index in range(first, min(first + _BATCH, len(tiles)))])
            watched = _Watched(mmle)
            config = replace(sampling, seed=sampling.seed + first // _BATCH, tile_batch=_BATCH)
            errors = _walk_batch(model, watched, lq.float() / 255, config, on_step)
            seen.append(torch.stack(watched.seen, dim=1))
            difficulty.append((errors / strayed).clamp_min(_LEAST_ERROR).log10())
            bar.update(len(lq))
            on_step(len(lq))
    return Ends(torch.cat(seen), torch.cat(difficulty))


def _walk_batch(
    model: WalkedModel, watched: _Watched, lq: Tensor, config: SamplingConfig, on_step: Callable[[int], None]
) -> Tensor:
    """Mean squared errors of pictures by the short walk of `lq` `[B,3,H,W]`, levels in [0,1], `[B]`."""
    lq_latent, codebook = model.encode(lq), model.build_codebook(config)
    side = lq_latent.shape[-1]
    grid = build_grid(side, side, side, 0, model.multiple)
    short = replace(config, dtss=replace(config.dtss, rule="bounded", budget=float(EVALUATIONS)))

    def walk_both(denoise: Denoiser, x: Tensor) -> Tensor:
        watched.mmle.to(x.device)
        start = Start(
            denoiser=denoise,
            codebook=codebook,
            timesteps=codebook.sigmas,
            grid=grid,
            lq_latent=lq_latent.to(x.device),
            x=x,
            estimator=watched,
            seed=config.seed,
        )
        ways = config.every_step(), short
        return torch.cat([run(start, way, on_step=lambda progress: on_step(0)).latent for way in ways])

    noise = field_noise(lq_latent.shape, config.seed).to(lq_latent.device)
    all_steps, few = model.visit(codebook, lq_latent, noise, walk_both).reshape(2, *lq_latent.shape)
    return (model.decode(all_steps).clamp(0, 1) - model.decode(few).clamp(0, 1)).square().mean(dim=(1, 2, 3)).cpu()


def fit_difficulty(mmle: Mmle, ends: Ends, penalty: float = 0.02) -> Mmle:
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
