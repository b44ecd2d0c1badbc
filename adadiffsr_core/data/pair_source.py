"""Where a step's pairs of latents come from: a window that moves on, kept on the device or on disk.

To degrade and encode a pair costs as much as to train on it, or more. So a pair is made once and seen a few times, each
time with other noise at another timestep, and then gives its place to another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..errors import ConfigError
from .arrays import Cache, Layout, open_arrays
from .dataset import PairConfig, PairDataset
from .degradation.batch import BatchDegradation
from .degradation.single import DegradationConfig
from .flat_colours import paint_flats
from .latent_pairs import PairEncoder
from .photo_bank import PhotoBank

_MANY = 64  # chunks whose making is worth a bar
ENDLESS = 2**40  # more pairs than any run draws
_CHOICE = 0x63686F  # a stream of its own beside those of the pairs


class PairSource(Protocol):
    """Pairs to train on."""

    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """Those of one step: `(gt, lq)`, latents `[B,C,h,w]` float32 on the device; the same for one step always."""
        ...


@dataclass(frozen=True)
class Window:
    """The pairs that a step may draw, of all there will ever be: pair n lies in place n modulo the window's length.

    Which they are follows from the step alone, and a pair from the seed and its number. So a run that was stopped makes
    again what it needs, and goes on to the same bits.

    Attributes:
        length: in pairs, a multiple of `chunk`.
        chunk: pairs that are made at once.
        renewal: new pairs for each one that is drawn; 0 keeps the first for ever.

    Raises:
        ConfigError: `length` is no multiple of `chunk`.
    """

    length: int
    chunk: int
    renewal: float

    def __post_init__(self) -> None:
        if self.length < self.chunk or self.length % self.chunk:
            raise ConfigError(f"pairs must be a multiple of {self.chunk}, got {self.length}")

    def first(self, step: int, batch_size: int) -> int:
        """The first pair that step `step` may draw; windows move by whole chunks."""
        return int(step * batch_size * self.renewal) // self.chunk * self.chunk

    def lacks(self, numbers: np.ndarray, first: int) -> np.ndarray:
        """Which chunks, by their numbers, have to be made for the window from `first` on.

        Args:
            numbers: int64 `[length]`, from 1 on, of the pair in each place; 0 is none.
            first: pair.
        """
        held = numbers.reshape(-1, self.chunk)
        place = np.arange(len(held))
        wanted = first // self.chunk + (place - first // self.chunk) % len(held)
        stale = (held - 1 != wanted[:, None] * self.chunk + np.arange(self.chunk)).any(axis=1)
        return np.sort(wanted[stale])

    def places(self, chunk: int) -> slice:
        """Where a chunk lies."""
        start = chunk * self.chunk % self.length
        return slice(start, start + self.chunk)

    def numbers(self, chunk: int) -> np.ndarray:
        """What `lacks` calls its pairs."""
        return chunk * self.chunk + 1 + np.arange(self.chunk)


class LivePairs:
    """Pairs that are cut, degraded and encoded on the device when they are asked for, and never seen again.

    Args:
        photos: on the processor's device.
        encoder: of the pairs.
        config: how crops are drawn and degraded.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        photos: PhotoBank,
        encoder: PairEncoder,
        config: PairConfig,
        seed: int,
    ) -> None:
        self.photos, self.encoder, self.processor = photos, encoder, encoder.processor
        self.config, self.seed = config, seed
        pipelines = DegradationConfig(), DegradationConfig.mild(config.mild_blur)
        self.degradation = BatchDegradation(
            *pipelines, config.mild_prob, config.scales or (pipelines[0].scale,) * 2, self.processor
        )

    @torch.no_grad()
    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """See `PairSource`."""
        generator = self.processor.generator(self.seed, step)
        size_px = self.config.size_px
        gt = self.photos.draw(batch_size, size_px, self.config.min_scale, generator)
        if self.config.flat_share:
            gt = paint_flats(gt, self.config.flat_share, generator)
        lq = self.degradation(gt, self.degradation.draw(batch_size, size_px, self.seed, step))
        with self.processor.autocast():
            latents = self.encoder.autoencoder.encode(torch.cat([gt, lq]))
        first, second = latents.float().chunk(2)
        return first, second


class DevicePairs:
    """A window of live pairs that stays on the device.

    Args:
        live: makes them, a chunk at a time.
        window: how many are kept, and for how long.
        seed: of the choice among them.
    """

    def __init__(self, live: LivePairs, window: Window, seed: int) -> None:
        self.live, self.window, self.seed = live, window, seed
        self._held: list[Tensor] = []
        # On the host, which must not ask the device what it holds.
        self._numbers = np.zeros(window.length, np.int64)

    @torch.no_grad()
    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """See `PairSource`."""
        first = self.window.first(step, batch_size)
        for chunk in self.window.lacks(self._numbers, first):
            made = self.live.draw(int(chunk), self.window.chunk)
            if not self._held:
                self._held = [part.new_zeros((self.window.length, *part.shape[1:])) for part in made]
            for held, part in zip(self._held, made, strict=True):
                held[self.window.places(int(chunk))] = part
            self._numbers[self.window.places(int(chunk))] = self.window.numbers(int(chunk))
        processor = self.live.processor
        chosen = torch.randint(
            self.window.length,
            (batch_size,),
            generator=processor.generator(self.seed ^ _CHOICE, step),
            device=processor.device,
        )
        gt, lq = (held[chosen] for held in self._held)
        return gt, lq


def window_layouts(config: PairConfig, encoder: PairEncoder, count: int) -> Cache:
    """Of the arrays of a window of `count` pairs."""
    # Which pair is in each place, from 1 on, so that a new file's zeros mean none.
    return {**encoder.layouts(config, count), "numbers": Layout((count,), np.int64)}


class RenewedPairs:
    """A window of pairs on disk, which processes make ahead on the processor.

    Args:
        folder: of the cache; created if need be.
        dataset: of all pairs there will ever be.
        encoder: of the pairs.
        window: how many are kept, and for how long.
        seed: of the choice among the pairs of the window.
        workers: processes that degrade ahead.

    Raises:
        ConfigError: the folder holds a window of another size.
        DiskError: the disk has no room for it.
    """

    def __init__(
        self,
        folder: Path,
        dataset: PairDataset,
        encoder: PairEncoder,
        window: Window,
        seed: int,
        workers: int = 0,
    ) -> None:
        self.dataset, self.encoder, self.window = dataset, encoder, window
        self.seed, self.workers = seed, workers
        arrays = open_arrays(folder, window_layouts(dataset.config, encoder, window.length))
        self._numbers = arrays.pop("numbers")
        self._arrays = list(arrays.values())
        self._ahead: Iterator[list[Tensor]] = iter(())
        self._ahead_from = -1

    def draw(self, step: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """See `PairSource`."""
        first = self.window.first(step, batch_size)
        self._renew(first)
        rng = np.random.default_rng([self.seed, step])
        places = np.sort((first + rng.integers(self.window.length, size=batch_size)) % self.window.length)
        gt, lq = (self.encoder.processor.place(torch.from_numpy(array[places]).float()) for array in self._arrays)
        return gt, lq

    def _renew(self, first: int) -> None:
        """Make what the window from `first` on lacks."""
        lacking = self.window.lacks(self._numbers, first)
        for chunk in tqdm(lacking, "latent pairs", disable=len(lacking) < _MANY, mininterval=5):
            rows = self.window.places(int(chunk))
            pictures = self._make(int(chunk) * self.window.chunk)
            self._numbers[rows] = 0  # until they are whole
            for array, images in zip(self._arrays, pictures, strict=True):
                array[rows] = self.encoder.encode(images)
            self._numbers[rows] = self.window.numbers(int(chunk))

    def _make(self, first: int) -> list[Tensor]:
        """Pictures of the pairs from `first` on, a chunk of them."""
        if self._ahead_from != first:
            rest = Subset(self.dataset, range(first, len(self.dataset)))
            self._ahead = iter(DataLoader(rest, self.window.chunk, num_workers=self.workers))
        self._ahead_from = first + self.window.chunk
        return next(self._ahead)
