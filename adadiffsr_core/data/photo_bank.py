"""Photographs kept as bytes on the device, and crops drawn from them there."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import Self

from ..errors import CheckpointError, ConfigError
from ..files import whole_file
from ..models.processor import Processor
from ..models.tensor_file import TensorFile
from .degradation.resampling import area_matrix, resize_batch
from .photo_files import fingerprint_versions, load_image, read_in_threads

PIECE_PX = 512
_KEY = "photographs"


class PhotoBank:
    """Pieces of photographs, `[N,3,512,512]`, all on one device; crops of them are drawn without the CPU.

    Args:
        pieces: uint8 `[N,3,512,512]` RGB; a smaller photograph is continued by reflection.
        sides: int64 `[N,2]`, height and width of what is not reflection, px.

    Raises:
        ConfigError: there is no piece.
    """

    def __init__(self, pieces: Tensor, sides: Tensor) -> None:
        if not len(pieces):
            raise ConfigError("there is no photograph to train on")
        self.pieces, self.sides = pieces, sides

    @classmethod
    def read(cls, paths: Sequence[Path], processor: Processor | None = None) -> Self:
        """Read photographs, each once; one larger than 512 px is cut into as many pieces as fit, evenly spread.

        Raises:
            ConfigError: there is none.
            ImageError: a file cannot be read.
        """
        device = (processor or Processor()).device
        pieces: list[Tensor] = []
        sides: list[tuple[int, int]] = []
        for cut in read_in_threads(lambda path: list(cut_photo(load_image(path))), paths):
            pieces += (torch.from_numpy(piece) for piece, _ in cut)
            sides += (side for _, side in cut)
        stacked = torch.stack(pieces) if pieces else torch.empty((0, 3, PIECE_PX, PIECE_PX), dtype=torch.uint8)
        return cls(stacked.to(device), torch.tensor(sides).view(-1, 2).to(device))

    @classmethod
    def open(cls, paths: Sequence[Path], cache: Path, processor: Processor | None = None) -> Self:
        """Read photographs, or the file `cache` if it was made of the very same ones; it is written otherwise.

        Raises:
            ConfigError: there is no photograph.
            ImageError: a photograph cannot be read.
        """
        key = fingerprint_versions(paths)
        bank = cls._load(cache, key, processor or Processor())
        if bank is None:
            bank = cls.read(paths, processor)
            bank.save(cache, key)
        return bank

    @classmethod
    def _load(cls, cache: Path, key: str, processor: Processor) -> Self | None:
        try:
            file = TensorFile(cache)
            if file.metadata.get(_KEY) != key or not _is_bank(file):
                return None
            pieces, sides = file["pieces"], file["sides"]
        except CheckpointError:
            return None
        if not bool(((sides >= 1) & (sides <= PIECE_PX)).all()):
            return None
        return cls(pieces.to(processor.device), sides.to(processor.device))

    def save(self, cache: Path, key: str) -> None:
        """Write everything to one file, which says `key` of itself."""
        with whole_file(cache) as partial:
            save_file({"pieces": self.pieces.cpu(), "sides": self.sides.cpu()}, partial, {_KEY: key})

    def __len__(self) -> int:
        return len(self.pieces)

    @torch.no_grad()
    def draw(self, count: int, size_px: int, min_scale: float, generator: torch.Generator | None) -> Tensor:
        """Draw crops as `draw_crop` does, each by itself: place, scale by area averaging, mirroring and quarter turns.

        Args:
            count: of crops.
            size_px: their side.
            min_scale: crops are made smaller by a factor from this to 1, as far as the photograph is large enough.
            generator: on the bank's device, such as `Processor.generator(seed, step)`.

        Returns:
            float32 `[count,3,size_px,size_px]` on the 256 levels of [0,1].

        Raises:
            ConfigError: `size_px` is not from 1 to 512, or `min_scale` not in (0,1].
        """
        if not 1 <= size_px <= PIECE_PX or not 0 < min_scale <= 1:
            raise ConfigError(
                f"size_px must be from 1 to {PIECE_PX} and min_scale in (0,1], got {size_px}, {min_scale}"
            )
        device = self.pieces.device
        uniform = torch.rand((8, count), generator=generator, device=device)
        index = _draw_below(uniform[0], torch.full_like(uniform[0], len(self))).long()
        sides = self.sides[index].float().clamp(min=size_px)
        least = (size_px / sides.amin(1)).clamp(min_scale, 1)
        window = torch.minimum(
            torch.round(size_px / torch.lerp(least, torch.ones_like(least), uniform[1])), sides.amin(1)
        )
        start = _draw_below(uniform[2:4].T, sides - window[:, None] + 1)
        held = min(PIECE_PX, round(size_px / min_scale))
        images = self._cut(index, start.long(), held).float()
        # weights of the window alone, so what else was cut out is not seen
        weights = area_matrix(window, torch.full_like(window, size_px), size_px, held)
        rows, columns = (
            torch.where((chance < 0.5)[:, None, None], weights.flip(1), weights) for chance in uniform[4:6]
        )
        crops = resize_batch(images, rows, columns)
        crops = torch.where((uniform[6] < 0.5)[:, None, None, None], crops.transpose(2, 3), crops)
        return crops.add_(0.5).floor_().clamp_(0, 255).div_(255)

    def look(self, count: int, size_px: int) -> Tensor:
        """Middles of up to `count` pieces, spread over them all, always the same: float32 `[n,3,s,s]` in [0,1]."""
        chosen = self.pieces[:: max(1, len(self) // count)][:count]
        start = (PIECE_PX - size_px) // 2
        return chosen[..., start : start + size_px, start : start + size_px].float().div(255)

    def _cut(self, index: Tensor, start: Tensor, length: int) -> Tensor:
        """Squares of `length` px of pieces `index` `[B]` from `start` `[B,2]` on, uint8; the border repeats."""
        offsets = torch.arange(length, device=start.device)
        rows, columns = ((start[:, axis, None] + offsets).clamp(max=PIECE_PX - 1) for axis in (0, 1))
        channels = torch.arange(3, device=start.device)[:, None, None]
        return self.pieces[index[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None]]


def _is_bank(file: TensorFile) -> bool:
    """Whether types and shapes are those that `PhotoBank.save` writes."""
    if file.keys() != {"pieces", "sides"} or (file.dtype("pieces"), file.dtype("sides")) != ("U8", "I64"):
        return False
    count = file.shape("pieces")[0] if file.shape("pieces") else 0
    shapes = file.shape("pieces"), file.shape("sides")
    return count > 0 and shapes == ((count, 3, PIECE_PX, PIECE_PX), (count, 2))


def cut_photo(photo: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Pieces uint8 `[3,512,512]` of uint8 `[H,W,3]`, and height and width of what is not reflection in each."""
    padding = [(0, max(0, PIECE_PX - side)) for side in photo.shape[:2]]
    side = min(photo.shape[0], PIECE_PX), min(photo.shape[1], PIECE_PX)
    photo = np.pad(photo, (*padding, (0, 0)), mode="reflect")
    for y in _spread(photo.shape[0]):
        for x in _spread(photo.shape[1]):
            yield np.ascontiguousarray(photo[y : y + PIECE_PX, x : x + PIECE_PX].transpose(2, 0, 1)), side


def _spread(side: int) -> list[int]:
    """Where the pieces of an axis begin, from its one end to the other; a single one is in the middle."""
    count, room = side // PIECE_PX, side - PIECE_PX
    return [room // 2] if count == 1 else [round(i * room / (count - 1)) for i in range(count)]


def _draw_below(uniform: Tensor, limits: Tensor) -> Tensor:
    """Whole numbers from 0 to below `limits`, as floats."""
    return torch.minimum((uniform * limits).floor(), limits - 1)
