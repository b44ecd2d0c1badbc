"""Training pairs as latents, made once by worker processes and kept on disk.

Degrading and encoding cost more than a training step of a small model. A cached pair is seen many
times, each time with other noise at another timestep.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..errors import ConfigError
from ..models.processor import Processor
from .arrays import Layout, map_array, open_arrays, read_done, write_done
from .dataset import PairConfig, PairDataset

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


@torch.inference_mode()
def encode_images(encoder: Encoder, images: Tensor, processor: Processor) -> np.ndarray:
    """Latents float32 `[N,C,h,w]`, on the CPU, of uint8 images `[N,3,H,W]`; the encoder keeps its own precision."""
    pixels = processor.place(images).float().div(255).contiguous(memory_format=torch.channels_last)
    latents: np.ndarray = encoder.encode(pixels).cpu().numpy()
    return latents


def pair_layouts(config: PairConfig, encoder: Encoder, count: int) -> Mapping[str, Layout]:
    """Of the arrays of `count` pairs."""
    side = config.size_px // encoder.config.factor
    return dict.fromkeys(("gt", "lq"), Layout((count, encoder.config.z_channels, side, side)))


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
        DiskError: the disk has no room for it.
    """
    arrays = open_arrays(folder, pair_layouts(dataset.config, autoencoder, len(dataset)))
    done = read_done(folder, len(dataset))
    loader = DataLoader(Subset(dataset, range(done, len(dataset))), batch_size, num_workers=workers)
    with tqdm(total=len(dataset), initial=done, desc="latent pairs", mininterval=5) as bar:
        for pair in loader:
            for array, images in zip(arrays.values(), pair, strict=True):
                array[done : done + len(images)] = encode_images(autoencoder, images, processor)
            done += len(pair[0])
            bar.update(len(pair[0]))
            if done % (batch_size * 16) == 0 or done == len(dataset):
                for array in arrays.values():
                    array.flush()
                write_done(folder, done)
    return LatentPairs(folder)
