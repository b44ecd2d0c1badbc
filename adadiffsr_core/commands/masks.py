"""The compute mask of a command: a file of any size, held whole for whole pictures, and read row by row for others."""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ImageError
from ..files import FileState, fingerprint_content, look_at
from ..photo.reading import open_photo, read_photo
from ..photo.value import Photo
from ..streaming.masked import MaskRows
from .doubts import tell_damage, tell_left_out
from .terminal import say


@dataclass(frozen=True)
class MaskFile:
    """A mask that was looked through once, so that nothing is found out about it later.

    Attributes:
        path: of the file.
        rows: how its rows are read.
        is_black: whether it leaves everything alone.
        state: see `look_at`.
        content: see `fingerprint_content`.
    """

    path: Path
    rows: MaskRows
    is_black: bool
    state: FileState | None
    content: str

    def read_whole(self) -> Tensor:
        """Levels `[1,1,H,W]` in [0,1].

        Raises:
            ImageError: the file cannot be read, is too large to be held, or was changed since it was looked through.
        """
        levels = photo_to_mask(read_photo(self.path))
        if look_at(self.path) != self.state:
            raise ImageError(f"the mask {self.path} was changed while it was read; start again")
        return levels


def open_mask(path: Path) -> MaskFile:
    """Look through a mask's file, of which a few rows are held, unless its kind is only decoded whole.

    Raises:
        ImageError: the file cannot be read.
    """
    state, file = look_at(path), open_photo(path)
    if file.count > 1:
        say(f"adadiffsr: the mask {path} has {file.parts}; the first is taken", sys.stderr)
    content = fingerprint_content(path)  # before it is read, so that what is read is that, or has another state
    picture = file.open_rows()
    if picture is None:
        first = next(file.read_pages())
        left_out, has_damage, whole = first.left_out, first.has_damage, photo_to_mask(first)
        rows = MaskRows((whole.shape[-2], whole.shape[-1]), lambda: [whole])
    else:
        # Only a JPEG's decoder goes on over damage; to look through others would decode them once more for nothing.
        left_out, has_damage = picture.photo.left_out, picture.is_jpeg and picture.look_through()
        rows = MaskRows((picture.height, picture.width), lambda: map(photo_to_mask, picture.read_pieces()))
    tell_left_out(path, left_out)
    tell_damage(path, has_damage)
    return MaskFile(path, rows, _is_black(rows), state, content)


def photo_to_mask(photo: Photo) -> Tensor:
    """A compute mask `[1,1,H,W]` in [0,1]: black is left untouched, mid-grey automatic, white gets every step.

    Where it is transparent it asks for nothing, as if there were no mask: automatic (decision D42).
    """
    levels = photo.pixels.mean(dim=0)[None, None].clamp(0, 1)
    return levels if photo.alpha is None else torch.lerp(torch.full_like(levels, 0.5), levels, photo.alpha[None])


def _is_black(rows: MaskRows) -> bool:
    """Whether all of it is; reads to the end, since what lies there may be damaged."""
    has_level = [bool(piece.any()) for piece in rows.read()]
    return not any(has_level)
