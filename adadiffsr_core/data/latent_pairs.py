"""Training pairs as latents, made once by worker processes and kept on disk, since they cost more than a step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from ..errors import ConfigError
from ..models.processor import Processor
from ..nets.autoencoder import Autoencoder
from ..nets.sd_encoder import SdEncoder
from .arrays import Layout, map_array, open_arrays, read_done, write_done
from .dataset import PairConfig, PairDataset

CHUNK = 16  # pairs encoded at once


@dataclass(frozen=True)
class PairEncoder:
    """What makes latents of pairs.

    Attributes:
        autoencoder: the one that users will have, on the processor's device.
        processor: that encodes.
        at_once: pairs encoded at once.
    """

    autoencoder: Autoencoder | SdEncoder
    processor: Processor
    at_once: int = CHUNK

    @torch.inference_mode()
    def encode(self, images: Tensor) -> np.ndarray:
        """Latents float32 `[N,C,h,w]`, on the CPU, of uint8 images `[N,3,H,W]`; networks keep their own precision."""
        pixels = self.processor.place(images).float().div(255).contiguous(memory_format=torch.channels_last)
        latents: np.ndarray = self.autoencoder.encode(pixels).cpu().numpy()
        return latents

    def layouts(self, config: PairConfig, count: int) -> Mapping[str, Layout]:
        """Of the arrays of `count` pairs."""
        side = config.size_px // self.autoencoder.config.factor
        return dict.fromkeys(("gt", "lq"), Layout((count, self.autoencoder.config.z_channels, side, side)))


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

    def chunks(self, size: int, most: int | None = None) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
        """All pairs, or about the first `most`, `size` at a time, each time with the number of the first of them."""
        for start in range(0, min(self.count, self.count if most is None else most), size):
            yield start, self.take(np.arange(start, min(start + size, self.count)))

    def take(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """The pairs at `indices`.

        Raises:
            ConfigError: a value is not finite.
        """
        gt, lq = (array[indices] for array in (self.gt, self.lq))
        if not (np.isfinite(gt).all() and np.isfinite(lq).all()):
            raise ConfigError(f"{self.folder} holds NaN or infinity; remove it to make it anew")
        return torch.from_numpy(gt).float(), torch.from_numpy(lq).float()


def build_latent_pairs(folder: Path, dataset: PairDataset, encoder: PairEncoder, workers: int) -> LatentPairs:
    """Encode every pair of `dataset`, going on where an earlier call stopped.

    Pair i depends on the dataset's seed and i alone, so a resumed cache equals one made at a stretch.

    Args:
        folder: where the cache is; created if need be.
        dataset: the pairs; its length is the cache's.
        encoder: of the pairs.
        workers: processes that degrade.

    Raises:
        ConfigError: the folder holds a cache of another size.
        DiskError: the disk has no room for it.
    """
    arrays = open_arrays(folder, encoder.layouts(dataset.config, len(dataset)))
    done = read_done(folder, len(dataset))
    loader = DataLoader(Subset(dataset, range(done, len(dataset))), encoder.at_once, num_workers=workers)
    with tqdm(total=len(dataset), initial=done, desc="latent pairs", mininterval=5) as bar:
        for pair in loader:
            for array, images in zip(arrays.values(), pair, strict=True):
                array[done : done + len(images)] = encoder.encode(images)
            done += len(pair[0])
            bar.update(len(pair[0]))
            if done % (encoder.at_once * 16) == 0 or done == len(dataset):
                for array in arrays.values():
                    array.flush()
                write_done(folder, done)
    return LatentPairs(folder)
