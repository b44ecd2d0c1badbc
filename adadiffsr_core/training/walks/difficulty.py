"""How far tiles stray where steps are skipped: walks whose end by all steps is known, and a regression on them.

The regressor stays as it is; what it sees of a tile (`Mmle.look`) also tells its difficulty, by ridge regression.

Source: decision D71.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import ConfigError
from ...nets.mmle import Mmle
from ...sampling.bounded import even_path
from ...sampling.codebook import Codebook
from ...sampling.denoiser import Denoiser
from ...sampling.noise import FIELD_INDEX, StepNoise
from ...sampling.tiles import build_grid
from ...settings import SamplingConfig
from .walked_model import WalkedModel
from .walks import walk_tiles

EVALUATIONS = 7  # of the walk whose error is a tile's difficulty
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


@torch.inference_mode()
def walk_ends(
    model: WalkedModel,
    mmle: Mmle,
    dataset: Dataset[tuple[Tensor, Tensor]],
    sampling: SamplingConfig,
    batches: Sequence[Sequence[int]],
    on_step: Callable[[int], None] = lambda more: None,
) -> Ends:
    """Walk degraded tiles with all steps, and with `EVALUATIONS` evenly spread.

    Args:
        model: the frozen networks.
        mmle: the regressor, where the model's latents are.
        dataset: of pairs `(gt, lq)`, uint8 `[3,H,W]`.
        sampling: schedule, solver and seed.
        batches: numbers of the pairs, those that go side by side together.
        on_step: told how many more walks are done.
    """
    codebook = model.build_codebook(sampling)
    paths = [even_path(codebook.steps, count) for count in (codebook.steps, EVALUATIONS)]
    seen, errors = [], []
    for batch in batches:
        lq = torch.stack([dataset[number][1] for number in batch])
        lq_latent = model.encode(lq.float() / 255)
        side = lq_latent.shape[-1]
        noise = StepNoise(sampling.seed, build_grid(side, side, side, 0, model.multiple), model.channels)
        start = noise(batch, torch.full((len(batch),), FIELD_INDEX), lq_latent.device)
        ends, looks = [], []
        for path in paths:
            stops = torch.tensor([[*path, codebook.steps]]).expand(len(batch), -1)
            walk = partial(_walk, codebook=codebook, stops=stops, walks=batch, noise=noise)
            estimates = model.visit(codebook, lq_latent, start, walk)
            ends.append(model.decode(estimates[:, -1]).clamp(0, 1))
            for visit, index in enumerate(path):
                sigma = codebook.sigmas[index].to(lq_latent.device).expand(len(batch))
                looks.append(mmle.look(estimates[:, visit], lq_latent, sigma).cpu())
        seen.append(torch.stack(looks, dim=1))
        errors.append((ends[0] - ends[1]).square().mean(dim=(1, 2, 3)).cpu())
        on_step(len(batch))
    return Ends(torch.cat(seen), torch.cat(errors).clamp_min(_LEAST_ERROR).log10())


def _walk(
    denoise: Denoiser, x: Tensor, codebook: Codebook, stops: Tensor, walks: Sequence[int], noise: StepNoise
) -> Tensor:
    return walk_tiles(denoise, codebook, x, stops, walks, noise)


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
