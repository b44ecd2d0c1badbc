"""Photographs on disk: read to tensors page by page, with the precision, the profile and the notes they came with."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ImageError
from .containers import Motion, is_animated_png, is_lossless_webp
from .exif import drop_circular
from .header import (
    count_pages,
    find_pages,
    is_tiff,
    open_header,
    read_motion,
    read_notes,
    read_profile,
    read_tiff_pages,
)
from .inks import check_lab, is_plain_lab, kind_of_values, plain_to_lab, rename_plain_lab, to_rgb_or_grey
from .limits import (
    HELD_BYTES,
    SIGNATURES,
    SURE_PIXELS,
    TIFFS,
    check_bytes,
    check_kind,
    check_parts,
    check_pixels,
    may_be_picture,
)
from .pillow_files import open_picture
from .pillow_reader import DAMAGE, PillowFile, open_with_pillow
from .tiff_tree import Directory, cut_page
from .value import Notes, Photo, levels_to_photo
from .vips import import_vips
from .writing import (
    WRITABLE,
)

READABLE = (*WRITABLE, ".mpo", ".gif", ".apng", ".bmp", ".dib", ".avif", ".avifs", ".heic", ".heif", ".hif")
KINDS = "PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP"
_HEAD_BYTES = 2**24  # in which the header of a PNG or JPEG lies, with its EXIF and profile
_CORRUPT = "Corrupt JPEG data"  # as all of libjpeg's warnings about the coded pixels begin


@dataclass(frozen=True, kw_only=True)
class PhotoFile:
    """A photograph's file whose header was read.

    Attributes:
        path: of the file.
        count: frames or pages.
        motion: of frames; None for a still, and for pages.
    """

    path: Path
    count: int
    motion: Motion | None
    _encoded: bytes
    _header: Any
    _pages: Sequence[int | Directory]
    _pillow: PillowFile | None = None

    @property
    def parts(self) -> str:
        """What there are several of, in words."""
        return f"{self.count} {'pages' if self.motion is None else 'frames'}"

    @cached_property
    def _is_lossless_webp(self) -> bool:
        return is_lossless_webp(self._encoded)

    def read_pages(self) -> Iterator[Photo]:
        """Every frame or page in its order, decoded when it is asked for.

        Palettes and 1-bit pictures are expanded, CMYK and Lab become sRGB, and the EXIF orientation is applied. RGB and
        grey pixels stay in the space of their profile, which is kept.

        Raises:
            ImageError: the file is damaged, cut short, too large, or of an unsupported pixel type.
        """
        if self._pillow is None and self.motion is None:
            return self._decode_pages()
        if self._header is not None:
            notes = read_notes(self._header, self._encoded)
        else:
            notes = Notes() if self._pillow is None else self._pillow.notes
        frames = self._decode_frames() if self._pillow is None else self._decode_with_pillow(self._pillow)
        return (replace(photo, notes=notes) for photo in frames)

    def _decode_pages(self) -> Iterator[Photo]:
        # Asked for a page by its number, libvips would look through all of a TIFF's, for each.
        encoded = bytearray(self._encoded) if count_pages(self._header) > 1 and is_tiff(self._header) else self._encoded
        for page in self._pages:
            options = {"page": page} if isinstance(page, int) and self._header.get_typeof("n-pages") else {}
            directory = page if isinstance(page, Directory) else None
            if directory is not None and isinstance(encoded, bytearray):
                cut_page(encoded, directory)
            image = self._open_page(encoded, options)
            check_pixels(self.path, image.width, image.height)
            check_kind(self.path, image.bands, kind_of_values(image))
            if directory is not None:
                check_lab(self.path, directory)
            if image.width * image.height > SURE_PIXELS:
                _pass_through(self._open_page(encoded, options), self.path)
            shown = plain_to_lab(image) if directory is not None and is_plain_lab(directory) else image
            photo = self._decode_jpeg(options) if self._is_jpeg() else self._to_photo(shown)
            yield replace(photo, notes=read_notes(image, self._encoded, directory))

    def _is_jpeg(self) -> bool:
        return bool(self._header.get("vips-loader").startswith("jpeg"))

    def _decode_jpeg(self, options: dict[str, int]) -> Photo:
        """The picture as far as it can be decoded: libjpeg goes on after damage, and only warns of it.

        Not refused, since it warns of what some cameras write as well.
        """
        try:
            return self._to_photo(self._open_page(self._encoded, options, fail_on="warning"))
        except ImageError as error:
            photo = self._to_photo(self._open_page(self._encoded, options))
            return replace(photo, has_damage=_CORRUPT in str(error.__context__))

    def _decode_frames(self) -> Iterator[Photo]:
        """Frames of an animation from top to bottom of one decoder's output: each is drawn upon the one before."""
        height = self._header.height
        strip = self._open_page(self._encoded, {"n": -1})
        for number in range(self.count):
            yield self._to_photo(strip, number * height, height)

    def _decode_with_pillow(self, pillow: PillowFile) -> Iterator[Photo]:
        profile = pillow.icc_profile if self._header is None else read_profile(self._header)
        for levels, has_alpha in pillow.read():
            yield levels_to_photo(levels, has_alpha=has_alpha, icc_profile=profile, path=self.path)

    def _open_page(self, encoded: bytes | bytearray, options: dict[str, int], fail_on: str = "error") -> Any:
        pyvips = import_vips()
        try:
            source = pyvips.Source.new_from_memory(encoded)  # new_from_buffer would copy it, for every page
            return pyvips.Image.new_from_source(source, "", access="sequential", fail_on=fail_on, **options)
        except pyvips.Error as error:
            raise _blame(error, self.path) from None

    def _to_photo(self, image: Any, top: int = 0, height: int | None = None) -> Photo:
        path, pyvips = self.path, import_vips()
        height = image.height if height is None else height
        try:
            image = to_rgb_or_grey(image.crop(0, top, image.width, height).copy_memory().autorot())
            levels = image.numpy().reshape(image.height, image.width, image.bands)
        except pyvips.Error as error:
            raise _blame(error, path) from None
        has_alpha = bool(image.hasalpha())
        if image.bands - has_alpha not in (1, 3):
            raise ImageError(f"{path} has {image.bands} channels; save it as grey or RGB, with or without transparency")
        photo = levels_to_photo(levels, has_alpha=has_alpha, icc_profile=read_profile(image), path=path)
        return replace(photo, is_lossless_webp=self._is_lossless_webp)


def read_photo(path: str | Path) -> Photo:
    """Read a PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP file; of several frames or pages, the first.

    Raises:
        ImageError: the file is missing, damaged, cut short, no picture, too large, or of an unsupported pixel type.
    """
    return next(open_photo(path).read_pages())


def open_photo(path: str | Path) -> PhotoFile:
    """Read what a photograph's file says, and decode nothing yet.

    Raises:
        ImageError: the file is missing, damaged, or no picture.
    """
    path = Path(path)
    size = _count_bytes(path)
    if size > HELD_BYTES:
        _check_large(path, size)
    encoded = _drop_circular(_read_bytes(path), path)
    header = open_header(encoded)
    if header is None and encoded.startswith(TIFFS):
        encoded = rename_plain_lab(encoded)
        header = open_header(encoded)
    if header is not None:
        _check_header(header, path, len(encoded))
    rest: dict[str, Any] = {"path": path, "_encoded": encoded, "_header": header}
    is_animated = is_animated_png(encoded)
    pillow = open_with_pillow(encoded, path) if header is None or is_animated else None
    if pillow is not None and (header is None or pillow.motion is not None):
        return PhotoFile(count=pillow.count, motion=pillow.motion, _pages=(), _pillow=pillow, **rest)
    # Decoders count the frames that are there, whether or not the file goes on.
    is_cut = encoded.startswith(b"GIF8") and not encoded.rstrip(b"\0").endswith(b";")
    if header is None or (is_animated and pillow is None) or is_cut:
        raise ImageError(f"{path} is damaged, or is no {KINDS} picture")
    pages, motion = _list_pages(header, encoded, path), read_motion(header)
    return PhotoFile(count=len(pages), motion=motion, _pages=pages, **rest)


def _list_pages(header: Any, encoded: bytes, path: Path) -> Sequence[int | Directory]:
    if not is_tiff(header):
        return find_pages(header)
    try:
        pages = read_tiff_pages(encoded)
    except ImageError:
        if count_pages(header) > 1:
            raise ImageError(f"{path} is damaged or cut short; get a whole copy of it") from None
        return (Directory(),)
    check_parts(path, len(pages))
    return pages


def is_picture(path: Path) -> bool:
    """Whether a file begins as a picture that can be read, whatever its name."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head.startswith(SIGNATURES) or head[8:] == b"WEBP" or head[4:] in (b"ftypavif", b"ftypavis", b"ftypheic")


def _count_bytes(path: Path) -> int:
    """Of a file that begins as a picture that can be read."""
    if path.exists() and not path.is_file():
        raise ImageError(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            head = file.read(12)
        size = path.stat().st_size
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:  # NUL, or a lone surrogate
        raise ImageError(f"{path} is a name that no file can have") from None
    if not head:
        raise ImageError(f"{path} is empty")
    if not may_be_picture(head):
        raise ImageError(f"{path} is damaged, or is no {KINDS} picture")
    return size


def _check_large(path: Path, size: int) -> None:
    """Refuse a large file by its header and its first page, as they are read from the disk bit by bit."""
    pyvips = import_vips()
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if _drop_circular(head, path) is not head:
        raise ImageError(f"{path} is damaged or cut short; get a whole copy of it")
    if head.startswith((b"\x89PNG", b"\xff\xd8")):
        # Their decoders would look through all of the file for what comes next.
        if (header := open_header(head)) is None:
            raise ImageError(f"{path} is damaged, or is no {KINDS} picture")
        _check_header(header, path, size)
    try:
        source = pyvips.Source.new_from_file(os.fsencode(path))
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error")
    except pyvips.Error:
        _check_large_bitmap(path, head, size)
        return
    _check_header(image, path, size)
    _pass_through(image, path)


def _check_large_bitmap(path: Path, head: bytes, size: int) -> None:
    try:
        picture = open_picture(io.BytesIO(head), ("BMP", "DIB"))
    except DAMAGE:
        raise ImageError(f"{path} is damaged, or is no {KINDS} picture") from None
    check_pixels(path, picture.width, picture.height)
    check_bytes(path, size, "", picture.width * picture.height, 4)


def _check_header(header: Any, path: Path, size: int) -> None:
    """Refuse what cannot be a photograph, before it is decoded; of pages after the first each says for itself."""
    parts = count_pages(header)
    check_pixels(path, header.width, header.height)
    kind = kind_of_values(header)
    check_kind(path, header.bands, kind)
    check_parts(path, parts)
    bytes_per_pixel = header.bands * (2 if kind == "ushort" else 1)
    check_bytes(path, size, header.get("vips-loader"), header.width * header.height, bytes_per_pixel, parts)


def _pass_through(image: Any, path: Path) -> None:
    """Decode a page strip by strip and keep nothing of it, so that a damaged one is refused before it takes memory."""
    try:
        image.avg()
    except import_vips().Error as error:
        raise _blame(error, path) from None


def _read_bytes(path: Path) -> bytes:
    try:
        # Not new_from_file: libvips reads options out of names such as "photo[1].png".
        encoded = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}") from None
    return encoded


def _drop_circular(encoded: bytes, path: Path) -> bytes:
    try:
        return drop_circular(encoded)
    except ImageError:
        raise ImageError(f"{path} is damaged or cut short; get a whole copy of it") from None


def _blame(error: Exception, path: Path) -> Exception:
    if "out of memory" in str(error):
        return MemoryError(str(error))
    if "codec" in str(error).lower():
        return ImageError(f"{path} is compressed in a way that libvips does not decode here; save it as PNG or JPEG")
    return ImageError(f"{path} is damaged or cut short; get a whole copy of it")
