"""Photographs and the teacher's latents of them, encoded once and kept on disk.

The teacher costs many times what the student costs; each photograph is encoded once, in one of
its eight orientations, and crops are cut out of picture and latents alike.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .taesd import Taesd

if TYPE_CHECKING:
    from .autoencoder import AutoencoderTaskConfig

_FACTOR = 8


class TeacherCache:
    """Memory-mapped photographs `[N,S,S,3]` uint8 and latents `[N,4,S/8,S/8]` float16."""

    def __init__(self, folder: Path, held_out: Sequence[bool]) -> None:
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.latents = np.load(folder / "latents.npy", mmap_mode="r")
        flags = np.asarray(held_out, dtype=bool)
        self.train_ids, self.held_out_ids = np.flatnonzero(~flags), np.flatnonzero(flags)

    def draw(self, rng: np.random.Generator, config: "AutoencoderTaskConfig") -> tuple[Tensor, Tensor]:
        """A batch of crops: image `[B,3,S,S]` in [0,1] and latents `[B,4,S/8,S/8]`."""
        side = config.crop_px // _FACTOR
        spots = self.latents.shape[-1] - side + 1
        images, latents = [], []
        for index in self.train_ids[rng.integers(len(self.train_ids), size=config.batch_size)]:
            y, x = rng.integers(spots, size=2)
            rows, columns = slice(y * _FACTOR, (y + side) * _FACTOR), slice(x * _FACTOR, (x + side) * _FACTOR)
            images.append(self.images[index, rows, columns])
            latents.append(self.latents[index, :, y : y + side, x : x + side])
        return _to_image(np.stack(images)), torch.from_numpy(np.stack(latents)).float()

    def held_out(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Up to `count` whole held-out photographs, spread over them all, one at a time."""
        for index in self.held_out_ids[:: max(1, len(self.held_out_ids) // count)][:count]:
            yield _to_image(self.images[index][None]), torch.from_numpy(self.latents[index][None]).float()


def _to_image(pixels: np.ndarray) -> Tensor:
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return image.float().div(255).contiguous(memory_format=torch.channels_last)
