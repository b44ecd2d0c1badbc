"""What the sampler makes of degraded photographs, beside the truth: what a decoder has to paint from, kept on disk."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...data.arrays import Layout, map_array, open_arrays, read_done, write_done
from ...data.dataset import PairDataset
from ...errors import ConfigError, DenoiserError
from ...models.model import Model
from ...pipeline import sample_latent
from ...settings import SamplingConfig

_BATCH = 16  # tiles sampled at once


class SampledPairs:
    """Memory-mapped latents `latent` `[N,C,h,w]` float16 and the truth `gt` `[N,3,H,W]` uint8.

    Args:
        folder: what `build_sampled_pairs` filled.

    Raises:
        ConfigError: a file of it is missing or damaged, or they do not fit each other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.latent, self.gt = (map_array(folder / f"{name}.npy") for name in ("latent", "gt"))
        self.factor = _factor(self.latent.shape, self.gt.shape)
        if not self.factor or self.gt.dtype != np.uint8:
            raise ConfigError(f"{folder} holds pairs of shapes {self.latent.shape} and {self.gt.shape}; remove it")
        self.count = read_done(folder, len(self.latent))

    def draw(self, rng: np.random.Generator, batch_size: int, side: int) -> tuple[Tensor, Tensor]:
        """Squares of `side` latent px, or of as many as there are, of pairs drawn with places of their own.

        Returns:
            Latents float32 `[B,C,side,side]` and the truth float32 `[B,3,S,S]` in [0,1].

        Raises:
            ConfigError: a latent is not finite.
        """
        side = min(side, self.latent.shape[-1])
        places = rng.integers(self.latent.shape[-1] - side + 1, size=(batch_size, 2))
        drawn = zip(rng.integers(self.count, size=batch_size), places, strict=True)
        return self._stack([self._cut(int(pair), int(top), int(left), side) for pair, (top, left) in drawn])

    def take(self, pairs: range) -> tuple[Tensor, Tensor]:
        """These pairs, whole, as `draw` returns them."""
        return self._stack([self._cut(pair, 0, 0, self.latent.shape[-1]) for pair in pairs])

    def _cut(self, pair: int, top: int, left: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        f = self.factor
        latent = self.latent[pair, :, top : top + side, left : left + side]
        return latent, self.gt[pair, :, top * f : (top + side) * f, left * f : (left + side) * f]

    def _stack(self, parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
        latents, truths = (np.stack(arrays) for arrays in zip(*parts, strict=True))
        if not np.isfinite(latents).all():
            raise ConfigError(f"{self.folder} holds NaN or infinity; remove it to make it anew")
        return torch.from_numpy(latents).float(), torch.from_numpy(truths).float() / 255


def _factor(latent: tuple[int, ...], gt: tuple[int, ...]) -> int:
    """How many px a latent px is high and wide, by both arrays' shapes; 0 if they do not fit each other."""
    if len(latent) != 4 or len(gt) != 4 or latent[0] != gt[0] or gt[1] != 3 or 0 in latent:
        return 0
    factor = gt[-1] // latent[-1]
    return factor if gt[-2:] == (latent[-2] * factor, latent[-1] * factor) else 0


def sampled_layouts(model: Model, count: int, size_px: int) -> dict[str, Layout]:
    """Of the arrays of `count` pairs."""
    c = model.autoencoder.config
    side = size_px // c.factor
    return {
        "latent": Layout((count, c.z_channels, side, side)),
        "gt": Layout((count, 3, size_px, size_px), np.uint8),
    }


def build_sampled_pairs(folder: Path, dataset: PairDataset, model: Model, sampling: SamplingConfig) -> SampledPairs:
    """Sample every pair of `dataset` as one tile, going on where an earlier call stopped.

    Every batch has a noise of its own, so that no place of a tile always has the same; batches begin at the same
    places after a resume.

    Args:
        folder: where the cache is; created if need be.
        dataset: degraded tiles; its length is the cache's.
        model: with its feature injection and regressor, as it is used.
        sampling: settings of a run, and the seed of the first batch.

    Raises:
        ConfigError: the folder holds a cache of another size.
        DiskError: the disk has no room for it.
        DenoiserError: the network returned NaN or infinity.
    """
    size_px = dataset.config.size_px
    arrays = open_arrays(folder, sampled_layouts(model, len(dataset), size_px))
    done = read_done(folder, len(dataset))
    tile = replace(sampling, tile_size=size_px, overlap=0, tile_fit=False)
    with tqdm(total=len(dataset), initial=done, desc="sampled pairs", mininterval=5) as bar:
        while done < len(dataset):
            pairs = range(done, min(done + _BATCH, len(dataset)))
            gt, lq = (torch.stack(images) for images in zip(*(dataset[pair] for pair in pairs), strict=True))
            settings = replace(tile, seed=sampling.seed + done // _BATCH)
            latent = sample_latent(model, model.encode(lq.float() / 255), settings).latent
            if not bool(latent.isfinite().all()):
                raise DenoiserError(
                    "the network returned NaN or infinity for a training tile; run it in full precision (float32)"
                )
            for name, values in {"latent": latent, "gt": gt}.items():
                arrays[name][pairs.start : pairs.stop] = values.cpu().numpy()
                arrays[name].flush()
            done = pairs.stop
            write_done(folder, done)
            bar.update(len(pairs))
    return SampledPairs(folder)
