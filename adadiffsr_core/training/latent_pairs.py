"""Training pairs as latents, made once by worker processes and kept on disk.

Degrading and encoding cost more than a training step of a small model. A cached pair is seen many
times, each time with other noise at another timestep.
"""

import json
import os
import warnings
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..errors import ConfigError
from ..files import whole_file
from ..text import quoted, shown
from .dataset import PairDataset
from .origin import read_note
from .processor import Processor

CHUNK = 16  # pairs encoded at once


class LatentSpace(Protocol):
    """Sizes of latents."""

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, along a side."""
        ...

    @property
    def z_channels(self) -> int:
        """Channels of a latent."""
        ...


class Encoder(Protocol):
    """An autoencoder, as far as pairs need one."""

    @property
    def config(self) -> LatentSpace:
        """What its latents are like."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """`[N,3,H,W]` in [0,1] to latents `[N,z_channels,H/factor,W/factor]`."""
        ...


class LatentPairs:
    """Memory-mapped latents `gt` and `lq`, each `[N,C,h,w]` float16.

    Args:
        folder: what `build_latent_pairs` filled.

    Raises:
        ConfigError: a file of it is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gt, self.lq = (map_array(folder / f"{name}.npy") for name in ("gt", "lq"))
        if self.gt.shape != self.lq.shape or self.gt.ndim != 4:
            raise ConfigError(f"{folder} holds pairs of shapes {self.gt.shape} and {self.lq.shape}; remove it")
        self.count = read_done(folder, len(self.gt))

    def draw(self, rng: np.random.Generator, batch_size: int) -> tuple[Tensor, Tensor]:
        """A batch `(gt, lq)`, float32 `[B,C,h,w]`."""
        return self.take(np.sort(rng.integers(self.count, size=batch_size)))

    def take(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """The pairs at `indices`.

        Raises:
            ConfigError: a value is not finite.
        """
        gt, lq = (array[indices] for array in (self.gt, self.lq))
        if not (np.isfinite(gt).all() and np.isfinite(lq).all()):
            raise ConfigError(f"{self.folder} holds NaN or infinity; remove it to make it anew")
        return torch.from_numpy(gt).float(), torch.from_numpy(lq).float()


def read_done(folder: Path, most: int) -> int:
    """How many entries of a cache are whole.

    Args:
        folder: the cache's.
        most: as many as it can hold.

    Raises:
        ConfigError: the note of it is damaged, or says more than that.
    """
    progress = folder / "progress.json"
    if not os.path.lexists(progress):
        return 0
    note = read_note(progress)
    done = note.get("done") if isinstance(note, dict) else None
    if type(done) is not int or not 0 <= done <= most:
        raise ConfigError(
            f"{progress} is damaged: {quoted(note, 80)} is no count of at most {most}; remove {folder} to make it anew"
        )
    return done


def write_done(folder: Path, done: int) -> None:
    """Note that so many are."""
    with whole_file(folder / "progress.json") as partial:
        partial.write_text(json.dumps({"done": done}))


@torch.inference_mode()
def encode_images(encoder: Encoder, images: Tensor, processor: Processor) -> np.ndarray:
    """Latents float32 `[N,C,h,w]`, on the CPU, of uint8 images `[N,3,H,W]`; the encoder keeps its own precision."""
    pixels = processor.place(images).float().div(255).contiguous(memory_format=torch.channels_last)
    latents: np.ndarray = encoder.encode(pixels).cpu().numpy()
    return latents


def pair_shape(dataset: PairDataset, encoder: Encoder, count: int) -> tuple[int, ...]:
    """Of an array of `count` latents."""
    side = dataset.config.size_px // encoder.config.factor
    return (count, encoder.config.z_channels, side, side)


def build_latent_pairs(
    folder: Path,
    dataset: PairDataset,
    autoencoder: Encoder,
    processor: Processor,
    workers: int,
    batch_size: int = CHUNK,
) -> LatentPairs:
    """Encode every pair of `dataset`, going on where an earlier call stopped.

    Pair i depends on the dataset's seed and i alone, so a resumed cache equals one made at a stretch.

    Args:
        folder: where the cache is; created if need be.
        dataset: the pairs; its length is the cache's.
        autoencoder: the encoder that users will have, on the processor's device.
        processor: that encodes.
        workers: processes that degrade.
        batch_size: pairs encoded at once.

    Raises:
        ConfigError: the folder holds a cache of another size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = pair_shape(dataset, autoencoder, len(dataset))
    arrays = [open_array(folder / f"{name}.npy", shape) for name in ("gt", "lq")]
    done = read_done(folder, len(dataset))
    loader = DataLoader(Subset(dataset, range(done, len(dataset))), batch_size, num_workers=workers)
    with tqdm(total=len(dataset), initial=done, desc="latent pairs", mininterval=5) as bar:
        for pair in loader:
            for array, images in zip(arrays, pair, strict=True):
                array[done : done + len(images)] = encode_images(autoencoder, images, processor)
            done += len(pair[0])
            bar.update(len(pair[0]))
            if done % (batch_size * 16) == 0 or done == len(dataset):
                for array in arrays:
                    array.flush()
                write_done(folder, done)
    return LatentPairs(folder)


def open_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic] = np.float16) -> np.memmap:
    """Create a file of a cache, or open it to go on filling it.

    Raises:
        ConfigError: it has another shape or type, or is damaged.
    """
    if not path.exists():
        with whole_file(path) as partial:
            np.lib.format.open_memmap(partial, "w+", dtype, shape)
    array = map_array(path, "r+")
    if array.shape != shape:
        raise ConfigError(f"{path} has the shape {array.shape}, not {shape}; choose another cache folder")
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise ConfigError(f"{path} holds {array.dtype}, not {np.dtype(dtype)}; choose another cache folder")
    return array


def map_array(path: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Open a file of a cache without reading it.

    Raises:
        ConfigError: it is missing, damaged, or no array of numbers.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of headers that it has to mend
            array: np.memmap = np.lib.format.open_memmap(path, mode)
        if array.dtype.kind not in "fiu" or array.size * array.itemsize > path.stat().st_size:
            raise ValueError("it holds no array of numbers")
    except Exception as error:  # numpy evaluates the header as Python, which raises what it likes
        reason = shown(str(error).strip() or type(error).__name__, 80)
        raise ConfigError(f"{path} cannot be read: {reason}; remove {path.parent} to make it anew") from error
    return array
