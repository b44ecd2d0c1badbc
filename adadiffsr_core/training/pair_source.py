"""Where a step's pairs of latents come from: drawn anew on the device, or kept on disk and renewed bit by bit.

An accelerator degrades and encodes faster than it trains. A processor does not: there a pair is made once and seen a
few times, each time with other noise at another timestep, and then gives its place to another.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..errors import ConfigError
from .dataset import PairDataset
from .degradation_batch import BatchDegradation
from .latent_pairs import CHUNK, Encoder, encode_images, open_array, pair_shape
from .photo_bank import PhotoBank
from .processor import Processor

_MANY = 64  # chunks whose making is worth a bar


class PairSource(Protocol):
    """Pairs to train on."""

    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Those of one step: `(gt, lq)`, latents `[B,C,h,w]` float32 on the device; the same for one step always."""
        ...


class LivePairs:
    """Pairs that are cut, degraded and encoded on the device when they are asked for, and never seen again.

    Args:
        photos: on the processor's device.
        degradation: what makes the low-quality twins.
        encoder: the autoencoder, likewise.
        processor: that trains.
        size_px: side of a pair.
        min_scale: crops are made smaller by up to this factor, for variety.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        photos: PhotoBank,
        degradation: BatchDegradation,
        encoder: Encoder,
        processor: Processor,
        *,
        size_px: int,
        min_scale: float,
        seed: int,
    ) -> None:
        self.photos, self.degradation, self.encoder, self.processor = photos, degradation, encoder, processor
        self.size_px, self.min_scale, self.seed = size_px, min_scale, seed

    @torch.no_grad()
    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """See `PairSource`."""
        generator = self.processor.generator(self.seed, step)
        gt = self.photos.draw(batch_size, self.size_px, self.min_scale, generator)
        lq = self.degradation(gt, self.degradation.draw(batch_size, self.size_px, self.seed, step))
        with self.processor.autocast():
            latents = self.encoder.encode(torch.cat([gt, lq]))
        first, second = latents.float().chunk(2)
        return first, second


class RenewedPairs:
    """Pairs on disk of which a run sees a window that moves on: pair n lies in place n modulo the window's length.

    Which pairs a step may draw follows from the step alone, and a pair from the seed and its number. So a run that was
    stopped makes again what it needs, and goes on to the same bits.

    Args:
        folder: of the cache; created if need be.
        dataset: of all pairs there will ever be.
        encoder: the autoencoder, on the processor's device.
        processor: that trains.
        count: length of the window, a multiple of `CHUNK`.
        seed: of the choice among the pairs of the window.
        renewal: new pairs for each one that is drawn; 0 keeps the first for ever.
        workers: processes that degrade ahead.

    Raises:
        ConfigError: `count` is no multiple of `CHUNK`, or the folder holds a window of another size.
    """

    def __init__(
        self,
        folder: Path,
        dataset: PairDataset,
        encoder: Encoder,
        processor: Processor,
        *,
        count: int,
        seed: int,
        renewal: float,
        workers: int = 0,
    ) -> None:
        if count < CHUNK or count % CHUNK:
            raise ConfigError(f"pairs must be a multiple of {CHUNK}, got {count}")
        self.dataset, self.encoder, self.processor = dataset, encoder, processor
        self.count, self.seed, self.renewal, self.workers = count, seed, renewal, workers
        shape = pair_shape(dataset, encoder, count)
        self._arrays = [open_array(folder / f"{name}.npy", shape) for name in ("gt", "lq")]
        # Which pair is in each place, from 1 on, so that a new file's zeros mean none.
        self._numbers = open_array(folder / "numbers.npy", (count,), np.int64)
        self._ahead: Iterator[list[Tensor]] = iter(())
        self._ahead_from = -1

    def window(self, step: int, batch_size: int) -> int:
        """The first pair that step `step` may draw; windows move by whole batches of the encoder."""
        return int(step * batch_size * self.renewal) // CHUNK * CHUNK

    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """See `PairSource`."""
        first = self.window(step, batch_size)
        self._renew(first)
        rng = np.random.default_rng([self.seed, step])
        places = np.sort((first + rng.integers(self.count, size=batch_size)) % self.count)
        gt, lq = (self.processor.place(torch.from_numpy(array[places]).float()) for array in self._arrays)
        return gt, lq

    def _renew(self, first: int) -> None:
        """Make what pairs `first` to `first + count - 1` lack."""
        held = self._numbers.reshape(-1, CHUNK)  # both the window and its length are whole chunks
        place = np.arange(len(held))
        wanted = first // CHUNK + (place - first // CHUNK) % len(held)
        stale = np.flatnonzero((held - 1 != wanted[:, None] * CHUNK + np.arange(CHUNK)).any(axis=1))
        for chunk in tqdm(np.sort(wanted[stale]), "latent pairs", disable=len(stale) < _MANY, mininterval=5):
            rows = slice(chunk % len(held) * CHUNK, (chunk % len(held) + 1) * CHUNK)
            pictures = self._make(int(chunk) * CHUNK)
            self._numbers[rows] = 0  # until they are whole
            for array, images in zip(self._arrays, pictures, strict=True):
                array[rows] = encode_images(self.encoder, images, self.processor)
            self._numbers[rows] = chunk * CHUNK + 1 + np.arange(CHUNK)

    def _make(self, first: int) -> list[Tensor]:
        """Pictures of the pairs from `first` on, a chunk of them."""
        if self._ahead_from != first:
            rest = Subset(self.dataset, range(first, len(self.dataset)))
            self._ahead = iter(DataLoader(rest, CHUNK, num_workers=self.workers))
        self._ahead_from = first + CHUNK
        return next(self._ahead)
