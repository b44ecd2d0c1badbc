"""Walks down the schedule: what the frozen diffusion model makes of degraded tiles on the way, kept on disk.

A walk visits some of the base steps only, so that estimates occur as they are on skipped timelines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..codebook import Codebook, build_codebook
from ..config import Config
from ..denoiser import Denoiser, UNetDenoiser
from ..errors import ConfigError
from ..noise import FIELD_INDEX, StepNoise
from ..pipeline import PRESETS, Model, SamplingConfig
from ..solver import take_jump
from ..tiles import build_grid
from .dataset import PairDataset
from .latent_pairs import open_array, read_done, write_done

_FLUSH_EVERY = 4  # batches


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
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"preset {self.preset!r} is unknown; use one of {', '.join(PRESETS)}")
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
        return self.sampling.dtss.intervals[-1]


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
        self.folder, self.count = folder, read_done(folder)
        self.denoised, self.lq_latent, self.gt, self.index, self.sigma = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("denoised", "lq_latent", "gt", "index", "sigma")
        )


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
    previous, previous_start = x, torch.full((len(walks),), -1)
    seen = []
    for start, target in zip(paths.T[:-1], paths.T[1:], strict=True):
        denoised = denoise(x, codebook.sigmas[start], range(len(walks)), None)
        fresh = noise(walks, target, x.device) if codebook.is_stochastic else None
        x = take_jump(codebook, x, denoised, start, target, fresh, previous, previous_start)
        previous, previous_start = denoised, start
        seen.append(denoised)
    return torch.stack(seen, dim=1)


@torch.inference_mode()
def build_walks(folder: Path, dataset: PairDataset, model: Model, config: WalkConfig, seed: int) -> WalkCache:
    """Walk every pair of `dataset`, going on where an earlier call stopped.

    Walk i depends on the dataset's seed, `seed` and i alone, so a resumed cache equals one made at a stretch.

    Args:
        folder: where the cache is; created if need be.
        dataset: the degraded tiles; its length is the number of walks.
        model: the frozen networks, on the CPU.
        config: how to walk.
        seed: of paths and noise.

    Raises:
        ConfigError: the folder holds a cache of another size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, visits, size = len(dataset), config.visits, dataset.config.size_px
    side, channels = size // model.autoencoder.config.factor, model.autoencoder.config.z_channels
    arrays = {
        "denoised": open_array(folder / "denoised.npy", (count, visits, channels, side, side)),
        "lq_latent": open_array(folder / "lq_latent.npy", (count, channels, side, side)),
        "gt": open_array(folder / "gt.npy", (count, 3, size, size), np.uint8),
        "index": open_array(folder / "index.npy", (count, visits), np.int64),
        "sigma": open_array(folder / "sigma.npy", (count, visits), np.float32),
    }
    sampling = config.sampling
    sigmas = model.schedule.build_sigmas(sampling.steps, sampling.spacing)
    codebook = build_codebook(sigmas, sampling.solver, sampling.eta, model.schedule)
    grid = build_grid(side, side, side, 0, model.unet.config.multiple)
    noise = StepNoise(seed, grid, channels)
    done, batches = read_done(folder), 0
    with tqdm(total=count, initial=done, desc="walks", mininterval=5) as bar:
        while done < count:
            # Batches begin at the same places after a resume: a network's bits may depend on its neighbours.
            walks = range(done, min(done + config.batch_size, count))
            gt, lq = (torch.stack(images) for images in zip(*(dataset[walk] for walk in walks), strict=True))
            lq_latent = model.encode(lq.float() / 255).half().float()
            rngs = [np.random.default_rng([seed, walk]) for walk in walks]
            paths = [draw_path(rng, sampling.steps, visits, config.largest_interval) for rng in rngs]
            steps = torch.from_numpy(np.stack(paths))
            start = noise(walks, torch.full((len(walks),), FIELD_INDEX))
            x = model.schedule.start(lq_latent, start, float(sigmas[0]))
            denoise = UNetDenoiser(model.unet, model.schedule, lq_latent, grid, model.pfj)
            denoised = walk_tiles(denoise, codebook, x, steps, walks, noise)
            index = steps[:, :-1]
            made = {"denoised": denoised, "lq_latent": lq_latent, "gt": gt, "index": index, "sigma": sigmas[index]}
            for name, values in made.items():
                arrays[name][walks.start : walks.stop] = values.numpy()
            done, batches = walks.stop, batches + 1
            bar.update(len(walks))
            if batches % _FLUSH_EVERY == 0 or done == count:
                for array in arrays.values():
                    array.flush()
                write_done(folder, done)
    return WalkCache(folder)
