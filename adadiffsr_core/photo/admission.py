"""Which files are read at all: told by first bytes, header and, of large ones, a first pass over the disk."""

import io
import mmap
import os
from pathlib import Path
from typing import Any, cast

from ..errors import ImageError
from .exif import drop_circular
from .header import count_pages, open_header
from .inks import kind_of_values, rename_plain_lab
from .limits import (
    HELD_BYTES,
    SIGNATURES,
    TIFFS,
    check_bytes,
    check_kind,
    check_parts,
    check_pixels,
    check_sides,
    damaged,
    may_be_picture,
    no_picture,
)
from .pillow_files import open_picture
from .pillow_reader import DAMAGE
from .vips import import_vips, pass_through

_HEAD_BYTES = 2**24  # in which the header of a PNG or JPEG lies, with its EXIF and profile


def read_admitted(path: Path, encoded: bytes | None = None) -> tuple[bytes, Any]:
    """The bytes of a file, and its header as libvips reads it: None if it does not know the file.

    Args:
        path: of the file.
        encoded: what `read_file` gave for it; None reads it now.

    Raises:
        ImageError: the file is missing, empty, or no picture, or its header says that it cannot be read.
    """
    if encoded is None:
        encoded = read_file(path)
    if len(encoded) <= HELD_BYTES:  # of larger ones `_check_large` has looked at the head
        encoded = _drop_circular(encoded, path)
    header = open_header(encoded)
    if header is None and encoded.startswith(TIFFS):
        encoded = rename_plain_lab(encoded)
        header = open_header(encoded)
    if header is not None:
        _check_header(header, path, len(encoded))
    return encoded, header


def _is_mapped(path: Path) -> bool:
    """Whether a file is of a kind that `MappedFile` is enough for."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"\x89PNG", b"\xff\xd8", *TIFFS))


class MappedFile(mmap.mmap):
    """A large file as if it had been read: only what is looked at takes memory, and that is given back when needed."""

    @classmethod
    def open(cls, path: Path) -> bytes:
        """The file's bytes; all that is asked of bytes here this class has."""
        with path.open("rb") as file:
            return cast(bytes, cls(file.fileno(), 0, access=mmap.ACCESS_READ))

    def startswith(self, prefix: bytes | tuple[bytes, ...]) -> bool:
        """As of bytes."""
        prefixes = prefix if isinstance(prefix, tuple) else (prefix,)
        return any(self[: len(each)] == each for each in prefixes)


def read_file(path: Path) -> bytes:
    """The bytes of a file that begins as a picture that can be read.

    Raises:
        ImageError: the file is missing, empty, or no picture; or it is large, and its first page cannot be read.
    """
    size = _count_bytes(path)
    if size > HELD_BYTES:
        _check_large(path, size)
    try:
        # Not new_from_file: libvips reads options out of names such as "photo[1].png".
        return MappedFile.open(path) if size > HELD_BYTES and _is_mapped(path) else path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(12)


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture that can be read, whatever its name."""
    try:
        head = _read_head(path)
    except OSError:
        return False
    return head.startswith(SIGNATURES) or head[8:] == b"WEBP" or head[4:] in (b"ftypavif", b"ftypavis", b"ftypheic")


def _count_bytes(path: Path) -> int:
    """Of a file that begins as a picture that can be read."""
    try:
        is_other = path.exists() and not path.is_file()  # to open a pipe might take for ever
        head = b"" if is_other else _read_head(path)
        size = path.stat().st_size
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:  # NUL, or a lone surrogate
        raise ImageError(f"{path} is a name that no file can have") from None
    if is_other:
        raise ImageError(f"{path} is not a file")
    if not head:
        raise ImageError(f"{path} is empty")
    if not may_be_picture(head):
        raise no_picture(path)
    return size


def _check_large(path: Path, size: int) -> None:
    """Refuse a large file by its header and its first page, as they are read from the disk bit by bit."""
    pyvips = import_vips()
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if _drop_circular(head, path) is not head:
        raise damaged(path)
    if head.startswith((b"\x89PNG", b"\xff\xd8")):
        # Their decoders would look through all of the file for what comes next.
        if (header := open_header(head)) is None:
            raise no_picture(path)
        _check_header(header, path, size)
    try:
        source = pyvips.Source.new_from_file(os.fsencode(path))
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error")
    except pyvips.Error:
        _check_large_bitmap(path, head, size)
        return
    _check_header(image, path, size)
    pass_through(image, path)


def _check_large_bitmap(path: Path, head: bytes, size: int) -> None:
    try:
        picture = open_picture(io.BytesIO(head), ("BMP", "DIB"))
    except DAMAGE:
        raise no_picture(path) from None
    check_pixels(path, picture.width, picture.height)
    check_bytes(path, size, "", picture.width * picture.height, 4)


def _check_header(header: Any, path: Path, size: int) -> None:
    """Refuse what cannot be a photograph, before it is decoded; of pages after the first each says for itself."""
    parts = count_pages(header)
    check_sides(path, header.width, header.height)
    kind = kind_of_values(header)
    check_kind(path, header.bands, kind)
    check_parts(path, parts)
    bytes_per_pixel = header.bands * (2 if kind == "ushort" else 1)
    check_bytes(path, size, header.get("vips-loader"), header.width * header.height, bytes_per_pixel, parts)


def _drop_circular(encoded: bytes, path: Path) -> bytes:
    try:
        return drop_circular(encoded)
    except ImageError:
        raise damaged(path) from None
