"""Walks down the schedule: what the frozen diffusion model makes of degraded tiles on the way, kept on disk.

A walk visits some of the base steps only, so that estimates occur as they are on skipped timelines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...config import Batch, Config, unknown
from ...data.arrays import Layout, map_array, open_arrays, read_done, write_done
from ...data.dataset import PairDataset
from ...errors import ConfigError, DenoiserError
from ...sampling.codebook import Codebook
from ...sampling.denoiser import Denoiser
from ...sampling.noise import FIELD_INDEX, StepNoise
from ...sampling.solver import Before, Jump, take_jump
from ...sampling.tiles import build_grid
from ...settings import PRESETS, SamplingConfig
from .walked_model import WalkedModel


@dataclass(frozen=True, kw_only=True)
class WalkConfig(Config):
    """How the diffusion model is walked.

    Attributes:
        preset: whose schedule, solver and largest interval are used.
        visits: estimates of each walk; intervals are drawn so that the last jump ends the schedule.
        batch_size: walks side by side.
    """

    preset: str = "everyday"
    visits: int = 10
    batch_size: Batch = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        steps, least = self.sampling.steps, -(-self.sampling.steps // self.largest_interval)
        if not max(2, least) <= self.visits <= steps:
            raise ConfigError(f"visits must be between {max(2, least)} and {steps} for this preset, got {self.visits}")

    @property
    def sampling(self) -> SamplingConfig:
        """The preset."""
        return PRESETS[self.preset]

    @property
    def largest_interval(self) -> int:
        """Base steps that a jump covers at most."""
        dtss = self.sampling.dtss
        return max(dtss.intervals[-1], round(dtss.first_jump * self.sampling.steps))


class WalkCache:
    """Memory-mapped walks; only the first `count` are whole.

    Attributes:
        denoised: estimates `[W,V,C,h,w]` float16.
        lq_latent: `[W,C,h,w]` float16.
        gt: the truth, `[W,3,H,W]` uint8.
        index: base indices that were visited, `[W,V]`.
        sigma: the noise levels there, `[W,V]` float32.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.denoised, self.lq_latent, self.gt, self.index, self.sigma = (
            map_array(folder / f"{name}.npy") for name in ("denoised", "lq_latent", "gt", "index", "sigma")
        )
        if len({len(array) for array in (self.denoised, self.lq_latent, self.gt, self.index, self.sigma)}) > 1:
            raise ConfigError(f"{folder} holds arrays of different lengths; remove it to make it anew")
        self.count = read_done(folder, len(self.denoised))


def draw_path(rng: np.random.Generator, steps: int, visits: int, largest: int) -> np.ndarray:
    """Draw the base indices of a walk: `visits` of them from 0, then `steps`, `[visits+1]`.

    Each interval is drawn among those from 1 to `largest` that leave the rest a way to end at `steps`. Then they are
    shuffled, since the last ones have less of a choice.
    """
    intervals: list[int] = []
    for rest in range(visits - 1, -1, -1):
        left = steps - sum(intervals)
        intervals.append(int(rng.integers(max(1, left - rest * largest), min(largest, left - rest), endpoint=True)))
    return np.concatenate([[0], np.cumsum(rng.permutation(intervals))])


def walk_tiles(
    denoise: Denoiser, codebook: Codebook, x: Tensor, paths: Tensor, walks: Sequence[int], noise: StepNoise
) -> Tensor:
    """Denoise each tile along its own path.

    Feature injection, where the model has it, is told of no gain: there is nothing yet to tell it by.

    Args:
        denoise: the network, whoever hosts it; it is asked for tiles 0 to B - 1.
        codebook: schedule and solver.
        x: the noisy start, `[B,C,h,w]`.
        paths: base indices `[B,V+1]`, from `draw_path`.
        walks: number of each walk, by which noise is drawn.
        noise: of a grid with one tile.

    Returns:
        The estimates of x0 at every visit, `[B,V,C,h,w]`.
    """
    codebook, paths = codebook.to(x.device), paths.to(x.device)
    before = Before(x, torch.full_like(paths[:, 0], -1))
    seen = []
    for start, target in zip(paths.T[:-1], paths.T[1:], strict=True):
        denoised = denoise(x, codebook.sigmas[start], range(len(walks)), None)
        fresh = noise(walks, target) if codebook.is_stochastic else None
        x = take_jump(codebook, x, denoised, Jump(start, target), fresh, before)
        before = Before(denoised, start)
        seen.append(denoised)
    return torch.stack(seen, dim=1)


@torch.inference_mode()
def build_walks(
    folder: Path,
    dataset: PairDataset,
    model: WalkedModel,
    config: WalkConfig,
    seed: int,
    on_step: Callable[[int], None] = lambda more: None,
) -> WalkCache:
    """Walk every pair of `dataset`, going on where an earlier call stopped.

    Walk i depends on the dataset's seed, `seed` and i alone, so a resumed cache equals one made at a stretch.

    Args:
        folder: where the cache is; created if need be.
        dataset: the degraded tiles; its length is the number of walks.
        model: the frozen networks.
        config: how to walk.
        seed: of paths and noise.
        on_step: told how many more walks are whole and on disk, those of earlier calls first; what it raises goes
            through and loses nothing.

    Raises:
        ConfigError: the folder holds a cache of another size.
        DiskError: the disk has no room for it.
        DenoiserError: the network returned NaN or infinity.
    """
    arrays = open_arrays(folder, walk_layouts(config, model, len(dataset), dataset.config.size_px))
    walker = _Walker(dataset, model, config, seed)
    done = read_done(folder, len(dataset))
    on_step(done)
    with tqdm(total=len(dataset), initial=done, desc="walks", mininterval=5) as bar:
        while done < len(dataset):
            # Batches begin at the same places after a resume: a network's bits may depend on its neighbours.
            walks = range(done, min(done + config.batch_size, len(dataset)))
            for name, values in walker.walk(walks).items():
                arrays[name][walks.start : walks.stop] = values.cpu().numpy()
                arrays[name].flush()
            done = walks.stop
            write_done(folder, done)
            bar.update(len(walks))
            on_step(len(walks))
    return WalkCache(folder)


def walk_layouts(config: WalkConfig, model: WalkedModel, count: int, size_px: int) -> dict[str, Layout]:
    """Of the arrays of `count` walks."""
    latent = (model.channels, size_px // model.factor, size_px // model.factor)
    return {
        "denoised": Layout((count, config.visits, *latent)),
        "lq_latent": Layout((count, *latent)),
        "gt": Layout((count, 3, size_px, size_px), np.uint8),
        "index": Layout((count, config.visits), np.int64),
        "sigma": Layout((count, config.visits), np.float32),
    }


class _Walker:
    """Makes the entries of a cache."""

    def __init__(self, dataset: PairDataset, model: WalkedModel, config: WalkConfig, seed: int) -> None:
        self.dataset, self.model, self.config, self.seed = dataset, model, config, seed
        self.codebook = model.build_codebook(config.sampling)
        side = dataset.config.size_px // model.factor
        self.noise = StepNoise(seed, build_grid(side, side, side, 0, model.multiple), model.channels)

    def walk(self, walks: Sequence[int]) -> dict[str, Tensor]:
        """Arrays of these walks, by name."""
        gt, lq = (torch.stack(images) for images in zip(*(self.dataset[walk] for walk in walks), strict=True))
        lq_latent = self.model.encode(lq.float() / 255).half().float()
        paths = torch.from_numpy(np.stack([self._draw_path(walk) for walk in walks]))
        start = self.noise(walks, torch.full((len(walks),), FIELD_INDEX), lq_latent.device)

        def visit_all(denoise: Denoiser, x: Tensor) -> Tensor:
            return walk_tiles(denoise, self.codebook, x, paths, walks, self.noise)

        denoised = self.model.visit(self.codebook, lq_latent, start, visit_all)
        if not bool(denoised.isfinite().all()):
            raise DenoiserError(
                "the network returned NaN or infinity for a training tile; run it in full precision (float32)"
            )
        index = paths[:, :-1]
        sigma = self.codebook.sigmas[index]
        return {"denoised": denoised, "lq_latent": lq_latent, "gt": gt, "index": index, "sigma": sigma}

    def _draw_path(self, walk: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, walk])
        return draw_path(rng, self.config.sampling.steps, self.config.visits, self.config.largest_interval)
