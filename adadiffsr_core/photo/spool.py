"""Rows of a result kept on disk until all are there, and made a picture of without holding them in memory.

Only once the last row is there can a file be encoded that is whole or not at all; and what lies on disk need not be
made again when a run is stopped.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..disk import free_on_disk
from ..errors import ImageError
from ..files import disk_full, try_remove, whole_file
from .containers import embed_in_tiff
from .exif import exif_for
from .plain_tiff import plain_tiff_head
from .scales import Size
from .value import LevelKind, Photo, levels_to_photo
from .vips import import_vips, shrink
from .writing import WRITABLE, bit_depth_of, describe_image, insertion_for, save_options

_STREAMED = ("png", "jpeg", "tiff")  # kinds that libvips encodes row by row
_HEAD_BYTES = 2**16
_FULL_BYTES = 2**20  # a disk with less is full, if what is written there fails
_TILED_BYTES = 2**28  # larger TIFFs are tiled, with smaller copies, so that viewers open them at once


def check_streamed(path: Path) -> None:
    """Refuse a kind of file that cannot be written without holding it whole.

    Raises:
        ImageError: it is one.
    """
    if WRITABLE[path.suffix.lower()] not in _STREAMED:
        better = path.with_suffix(".tif").name
        raise ImageError(f"{path} cannot be written in bands: its kind is held in memory whole; write {better} instead")


class Spool:
    """A file of a result's levels, one row of pixels after another, behind the head of a plain TIFF.

    So libvips reads it from the top as it reads any; raw levels it would map as a whole, which counts as memory.

    Args:
        path: of the file; what is there is gone on with.
        photo: what the source says, whose precision and colours the result has; transparency is left out.
        size: (height, width) of the result, px.
        target: that the rows are for, which decides their precision.

    Attributes:
        row_bytes: of one row.
    """

    def __init__(self, path: Path, photo: Photo, size: Size, target: Path) -> None:
        self.path, self.photo, self.size, self.target = path, photo, size, target
        self.kind = WRITABLE[target.suffix.lower()]
        self.levels = LevelKind(bit_depth_of(photo, self.kind), photo.is_grey)
        self.row_bytes = size[1] * self.levels.channels * self.levels.bit_depth // 8
        self._head = plain_tiff_head(*size, self.levels)

    @property
    def rows(self) -> int:
        """Whole rows that are there."""
        there = self.path.stat().st_size - len(self._head) if self.path.is_file() else 0
        return max(0, there) // self.row_bytes

    def cut(self, rows: int) -> None:
        """Keep the first rows alone."""
        with self.path.open("ab") as file:
            file.truncate(len(self._head) + rows * self.row_bytes if rows else 0)

    def add(self, pixels: Tensor) -> None:
        """Add rows `[3,*,width]` in [0,1].

        Raises:
            ImageError: they hold NaN.
        """
        if not bool(pixels.isfinite().all()):
            raise ImageError(
                f"{self.target} was not written: the networks gave values that are not numbers; use --dtype float32"
            )
        self.add_levels(self.levels.to_levels(pixels))

    def add_levels(self, levels: NDArray[Any]) -> None:
        """Add rows `[*,width,channels]` of this kind of levels."""
        with self.path.open("ab") as file:
            if not file.tell():
                file.write(self._head)
            file.write(np.ascontiguousarray(levels).data)

    def preview(self, most: int) -> Tensor:
        """The picture, once all rows are there, reduced to sides of at most `most` px; `[3,h,w]` in [0,1]."""
        image = self._open()
        small = shrink(image, most)
        return levels_to_photo(
            small.numpy().reshape(small.height, small.width, self.levels.channels), has_alpha=False
        ).pixels

    def write(self, path: Path, quality: int) -> None:
        """Write the picture, once all rows are there; the file appears whole or not at all.

        Args:
            path: where to; of a kind that `check_streamed` allows.
            quality: of JPEG.

        Raises:
            ImageError: it cannot be written.
        """
        pyvips = import_vips()
        # Among the rows, so that what is half written when the process is killed goes with them.
        with whole_file(path, self.path.parent) as partial:
            try:
                self._encode(partial, quality)
            except pyvips.Error as error:
                # Of the reason libvips says nothing.
                if free_on_disk(self.path.parent) < _FULL_BYTES:
                    raise disk_full(path) from None
                raise ImageError(f"{path} cannot be written: {str(error).strip().splitlines()[-1]}") from None

    def _encode(self, partial: Path, quality: int) -> None:
        raw, size = self._open(), self.size[0] * self.row_bytes
        if self.photo.alpha is not None and self.kind != "jpeg":
            raw = raw.bandjoin(2**self.levels.bit_depth - 1)
        image = describe_image(raw, self.photo, self.kind)
        options: dict[str, Any] = save_options(self.photo, self.kind, quality, size)
        is_tiled = self.kind == "tiff" and size > _TILED_BYTES
        if is_tiled:
            options |= {"tile": True, "pyramid": True, "subifd": True, "tile_width": 256, "tile_height": 256}
        getattr(image, f"{self.kind}save")(str(partial), **options)
        if self.kind != "tiff":
            self._say(partial)
        elif not is_tiled and self.photo.notes.exif is not None:
            exif = exif_for(self.photo.notes.exif, self.size, self.photo.notes.dpi)
            partial.write_bytes(embed_in_tiff(partial.read_bytes(), exif))

    def _open(self) -> Any:
        pyvips = import_vips()
        source = pyvips.Source.new_from_file(os.fsencode(self.path))
        return pyvips.Image.new_from_source(source, "", access="sequential")

    def _say(self, partial: Path) -> None:
        """Put in what libvips does not write as it is; see `insertion_for`."""
        with partial.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            insertion = insertion_for(head, self.photo, self.size, self.kind)
            if not insertion.data:
                return
            whole = partial.with_name(f"{partial.name}.said")
            try:
                with whole.open("wb") as copy:
                    copy.write(head[: insertion.place] + insertion.data)
                    file.seek(insertion.resume)
                    shutil.copyfileobj(file, copy, 2**20)
                whole.replace(partial)
            finally:
                try_remove(whole)
