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

from .dataset import load_image
from .latent_pairs import open_array, read_done, write_done
from .origin import claim_cache, fingerprint_files
from .processor import Processor
from .taesd import Taesd

if TYPE_CHECKING:
    from .autoencoder import AutoencoderTaskConfig

FACTOR = 8
SIZE_PX = 512
_BATCH = 2
_FLUSH_EVERY = 16 * _BATCH


class TeacherCache:
    """Memory-mapped photographs `[N,S,S,3]` uint8 and latents `[N,4,S/8,S/8]` float16."""

    def __init__(self, folder: Path, held_out: Sequence[bool]) -> None:
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        self.latents = np.load(folder / "latents.npy", mmap_mode="r")
        flags = np.asarray(held_out, dtype=bool)
        self.train_ids, self.held_out_ids = np.flatnonzero(~flags), np.flatnonzero(flags)

    def draw(self, rng: np.random.Generator, config: "AutoencoderTaskConfig") -> tuple[Tensor, Tensor]:
        """A batch of crops: image `[B,3,S,S]` in [0,1] and latents `[B,4,S/8,S/8]`."""
        side = config.crop_px // FACTOR
        spots = self.latents.shape[-1] - side + 1
        images, latents = [], []
        for index in self.train_ids[rng.integers(len(self.train_ids), size=config.batch_size)]:
            y, x = rng.integers(spots, size=2)
            rows, columns = slice(y * FACTOR, (y + side) * FACTOR), slice(x * FACTOR, (x + side) * FACTOR)
            images.append(self.images[index, rows, columns])
            latents.append(self.latents[index, :, y : y + side, x : x + side])
        return _to_image(np.stack(images)), torch.from_numpy(np.stack(latents)).float()

    def held_out(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Up to `count` whole held-out photographs, spread over them all, one at a time."""
        for index in self.held_out_ids[:: max(1, len(self.held_out_ids) // count)][:count]:
            yield _to_image(self.images[[index]]), torch.from_numpy(self.latents[[index]]).float()


def build_teacher_cache(
    folder: Path, paths: Sequence[Path], teacher: Taesd, seed: int, processor: Processor | None = None
) -> None:
    """Fill a folder with photographs and the teacher's latents of them, going on where an earlier call stopped.

    A photograph is reflected or cut to 512 px, and turned and mirrored in one of eight ways, drawn from (seed, index).

    Args:
        folder: where the cache is; created if need be.
        paths: photographs, in the cache's order.
        teacher: encodes them; it goes to the processor's device.
        seed: of the orientations.
        processor: that encodes; None is the CPU in bfloat16.

    Raises:
        ConfigError: the folder holds a cache of other photographs or of another seed.
        ImageError: a photograph cannot be read.
    """
    claim_cache(folder, {"photographs": fingerprint_files(paths), "seed": seed})
    side = SIZE_PX // FACTOR
    images = open_array(folder / "images.npy", (len(paths), SIZE_PX, SIZE_PX, 3), np.uint8)
    latents = open_array(folder / "latents.npy", (len(paths), 4, side, side), np.float16)
    processor = processor or Processor(bfloat16=True)
    teacher = processor.install(teacher)
    done = read_done(folder)
    with tqdm(total=len(paths), initial=done, desc="teacher", mininterval=5) as bar:
        while done < len(paths):
            # Batches begin at the same places after a resume: a network's bits may depend on its neighbours.
            batch = range(done, min(done + _BATCH, len(paths)))
            pixels = np.stack([_orient(_fit(load_image(paths[i])), seed, i) for i in batch])
            images[batch.start : batch.stop] = pixels
            latents[batch.start : batch.stop] = _encode(teacher, pixels, processor)
            done = batch.stop
            bar.update(len(batch))
            if done % _FLUSH_EVERY == 0 or done == len(paths):
                images.flush()
                latents.flush()
                write_done(folder, done)


@torch.inference_mode()
def _encode(teacher: Taesd, pixels: np.ndarray, processor: Processor) -> np.ndarray:
    with processor.autocast():
        latents: np.ndarray = teacher.encode(processor.place(_to_image(pixels))).float().cpu().numpy()
    return latents


def _fit(image: np.ndarray) -> np.ndarray:
    """Continue by reflection, then cut, to the cache's size."""
    down, right = (max(0, SIZE_PX - side) for side in image.shape[:2])
    return np.pad(image, ((0, down), (0, right), (0, 0)), "reflect")[:SIZE_PX, :SIZE_PX]


def _orient(image: np.ndarray, seed: int, index: int) -> np.ndarray:
    orientation = int(np.random.default_rng([seed, index]).integers(8))
    turned = np.rot90(image, orientation % 4)
    return turned[:, ::-1] if orientation >= 4 else turned


def _to_image(pixels: np.ndarray) -> Tensor:
    image = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
    return image.float().div(255).contiguous(memory_format=torch.channels_last)
