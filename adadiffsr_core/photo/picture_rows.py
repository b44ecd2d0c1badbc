"""A photograph read from top to bottom, with a few of its rows in memory."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError
from .channels import count_left_out, keep_picture, read_extras
from .header import read_notes, read_profile
from .inks import to_rgb_or_grey
from .limits import check_kind, check_sides
from .tiff_tree import Directory, find_directory
from .value import Photo, levels_to_photo
from .vips import blame, import_vips, is_corrupt_jpeg, pass_through, shrink

_EACH = 64  # rows decoded at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureRows:
    """A still picture of one page that can be decoded row by row.

    Attributes:
        path: of the file.
        height, width: px, upright.
        photo: what the file says about it; its pixels are none, and take no memory.
        channels: of the picture.
        page: of a TIFF, the picture's number among its directories, since smaller copies may come first.
        extras: of a TIFF, see `read_extras`.
        is_jpeg: the kind of the file.
    """

    path: Path
    height: int
    width: int
    photo: Photo
    channels: int
    page: int = 0
    extras: tuple[int, ...] = ()
    is_jpeg: bool = False

    def read(self) -> Iterator[Tensor]:
        """Pixels `[1,3,*,w]` in [0,1] from top to bottom, as `read_photo` gives them; transparency is left out.

        Raises:
            ImageError: the file is damaged.
        """
        return (piece.pixels[None] for piece in self.read_pieces())

    def read_pieces(self) -> Iterator[Photo]:
        """Bands of its rows from top to bottom, each a photo of its own, with transparency.

        Raises:
            ImageError: the file is damaged.
        """
        image = self._open_upright()
        has_alpha = bool(image.hasalpha())
        for levels in _fetch(image, self.path):
            yield levels_to_photo(levels, has_alpha=has_alpha)

    def preview(self, most: int) -> Tensor:
        """The picture reduced to sides of at most `most` px, `[3,h,w]` in [0,1].

        Raises:
            ImageError: the file is damaged.
        """
        image = self._open_upright()
        has_alpha, small = bool(image.hasalpha()), shrink(image, most)
        parts = [levels_to_photo(levels, has_alpha=has_alpha).pixels for levels in _fetch(small, self.path)]
        return torch.cat(parts, dim=1)

    def is_opaque(self) -> bool:
        """Whether nothing is lost by leaving transparency out; reads the whole file if it has any.

        Raises:
            ImageError: the file is damaged.
        """
        if self.photo.alpha is None:
            return True
        levels = (levels[..., -1] for levels in _fetch(self._open_upright(), self.path))
        return all(bool((alpha == np.iinfo(alpha.dtype).max).all()) for alpha in levels)

    def look_through(self) -> bool:
        """Decode all of it and keep nothing; whether the decoder met damage, filled it with what it could, and went on.

        Raises:
            ImageError: the file is damaged.
        """
        has_warning = False
        if self.is_jpeg:  # libjpeg warns of what some cameras write as well
            try:
                pass_through(_open(self.path, fail_on="warning"), self.path)
            except ImageError as error:
                has_warning = is_corrupt_jpeg(error)
            else:
                return False
        pass_through(_open(self.path, self.page), self.path)
        return has_warning

    def _open_upright(self) -> Any:
        return _open_upright(self.path, self.page, self.extras)


def open_rows(path: Path, encoded: bytes, page: Directory | None = None) -> PictureRows:
    """What the first page says, decoding nothing yet.

    Args:
        path: of the file.
        encoded: its bytes, for its notes.
        page: of a TIFF.

    Raises:
        ImageError: it is damaged, or of an unsupported pixel type.
    """
    number = 0 if page is None else find_directory(encoded, page)
    extras = read_extras(page)
    image = _open_upright(path, number, extras)
    check_sides(path, image.width, image.height)
    has_alpha = bool(image.hasalpha())
    if image.bands - has_alpha not in (1, 3):
        raise ImageError(f"{path} has {image.bands} channels; save it as grey or RGB, with or without transparency")
    check_kind(path, image.bands, image.format)
    nothing = torch.zeros(1, 1, 1).expand(3, image.height, image.width)
    photo = Photo(
        pixels=nothing,
        alpha=nothing[:1] if has_alpha else None,
        bit_depth=16 if image.format == "ushort" else 8,
        is_grey=image.bands - has_alpha == 1,
        icc_profile=read_profile(image),
        path=path,
        notes=read_notes(image, encoded, page),
        left_out=count_left_out(extras),
    )
    return PictureRows(
        path=path,
        height=image.height,
        width=image.width,
        photo=photo,
        channels=image.bands,
        page=number,
        extras=extras,
        is_jpeg=encoded.startswith(b"\xff\xd8"),
    )


def _open_upright(path: Path, page: int, extras: tuple[int, ...]) -> Any:
    """Libvips' image, decoded as its rows are asked for; one that lies on its side is decoded to the disk first."""
    image = _open(path, page)
    is_upright = not image.get_typeof("orientation") or image.get("orientation") <= 1
    try:
        upright = image if is_upright else _open(path, page, access="random").autorot()
        return to_rgb_or_grey(keep_picture(upright, extras))
    except import_vips().Error as error:
        raise blame(error, path) from None


def _open(path: Path, page: int = 0, *, access: str = "sequential", fail_on: str = "error") -> Any:
    pyvips = import_vips()
    options = {"page": page} if page else {}
    try:
        source = pyvips.Source.new_from_file(os.fsencode(path))
        return pyvips.Image.new_from_source(source, "", access=access, fail_on=fail_on, **options)
    except pyvips.Error as error:
        raise blame(error, path) from None


def _fetch(image: Any, path: Path) -> Iterator[np.ndarray[Any, Any]]:
    pyvips = import_vips()
    kind = np.uint16 if image.format == "ushort" else np.uint8
    fetch: Callable[..., bytes] = pyvips.Region.new(image).fetch
    for top in range(0, image.height, _EACH):
        count = min(_EACH, image.height - top)
        try:
            rows = fetch(0, top, image.width, count)
        except pyvips.Error as error:
            raise blame(error, path) from None
        yield np.frombuffer(rows, dtype=kind).reshape(count, image.width, image.bands)
