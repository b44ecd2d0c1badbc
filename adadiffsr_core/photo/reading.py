"""Photographs on disk: read to tensors page by page, with the precision, the profile and the notes they came with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ImageError
from .admission import read_admitted
from .channels import count_left_out, keep_picture, read_extras
from .checks import check_path
from .containers import Motion, is_animated_png, is_lossless_webp
from .header import count_pages, find_pages, is_kind, read_motion, read_notes, read_profile, read_tiff_pages
from .inks import check_lab, is_plain_lab, kind_of_values, plain_to_lab, to_rgb_or_grey
from .limits import SURE_PIXELS, check_kind, check_parts, check_pixels, damaged, no_picture
from .picture_rows import PictureRows, open_rows
from .pillow_reader import PillowFile, open_with_pillow
from .tiff_tree import Directory, cut_page
from .value import Notes, Photo, levels_to_photo
from .vips import blame, import_vips, is_corrupt_jpeg, pass_through
from .writing import WRITABLE

READABLE = (*WRITABLE, ".mpo", ".gif", ".apng", ".bmp", ".dib", ".avif", ".avifs", ".heic", ".heif", ".hif")


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

    def open_rows(self) -> PictureRows | None:
        """The picture to be decoded from top to bottom; None of several, and of what libvips decodes only whole.

        Raises:
            ImageError: the file is damaged, or of an unsupported pixel type.
        """
        if self.count != 1 or self._pillow is not None or not is_kind(self._header, "png", "jpeg", "tiff"):
            return None
        page = self._pages[0]
        directory = page if isinstance(page, Directory) else None
        if directory is not None:
            check_lab(self.path, directory)
            if is_plain_lab(directory):
                return None
        return open_rows(self.path, self._encoded, directory)

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
        is_book = is_kind(self._header, "tiff") and count_pages(self._header) > 1
        encoded = bytearray(self._encoded) if is_book else self._encoded
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
                pass_through(self._open_page(encoded, options), self.path)
            shown = plain_to_lab(image) if directory is not None and is_plain_lab(directory) else image
            extras = read_extras(directory)
            kept = keep_picture(shown, extras)
            photo = self._decode_jpeg(options) if is_kind(self._header, "jpeg") else self._to_photo(kept)
            notes = read_notes(image, self._encoded, directory)
            yield replace(photo, notes=notes, left_out=count_left_out(extras))

    def _decode_jpeg(self, options: dict[str, int]) -> Photo:
        """The picture as far as it can be decoded: libjpeg goes on after damage, and only warns of it.

        Not refused, since it warns of what some cameras write as well.
        """
        try:
            return self._to_photo(self._open_page(self._encoded, options, fail_on="warning"))
        except ImageError as error:
            photo = self._to_photo(self._open_page(self._encoded, options))
            return replace(photo, has_damage=is_corrupt_jpeg(error))

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
            raise blame(error, self.path) from None

    def _to_photo(self, image: Any, top: int = 0, height: int | None = None) -> Photo:
        path, pyvips = self.path, import_vips()
        height = image.height if height is None else height
        try:
            image = to_rgb_or_grey(image.crop(0, top, image.width, height).copy_memory().autorot())
            levels = image.numpy().reshape(image.height, image.width, image.bands)
        except pyvips.Error as error:
            raise blame(error, path) from None
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


def open_photo(path: str | Path, encoded: bytes | None = None) -> PhotoFile:
    """Read what a photograph's file says, and decode nothing yet.

    Args:
        path: of the file.
        encoded: its bytes, where `read_file` read them already, maybe on another machine.

    Raises:
        ImageError: the file is missing, damaged, or no picture.
    """
    path = check_path(path)
    encoded, header = read_admitted(path, encoded)
    rest: dict[str, Any] = {"path": path, "_encoded": encoded, "_header": header}
    is_animated = is_animated_png(encoded)
    pillow = open_with_pillow(encoded, path) if header is None or is_animated else None
    if pillow is not None and (header is None or pillow.motion is not None):
        return PhotoFile(count=pillow.count, motion=pillow.motion, _pages=(), _pillow=pillow, **rest)
    # Decoders count the frames that are there, whether or not the file goes on.
    is_cut = encoded.startswith(b"GIF8") and not encoded.rstrip(b"\0").endswith(b";")
    if header is None or (is_animated and pillow is None) or is_cut:
        raise no_picture(path)
    pages, motion = _list_pages(header, encoded, path), read_motion(header)
    return PhotoFile(count=len(pages), motion=motion, _pages=pages, **rest)


def _list_pages(header: Any, encoded: bytes, path: Path) -> Sequence[int | Directory]:
    if not is_kind(header, "tiff"):
        return find_pages(header)
    try:
        pages = read_tiff_pages(encoded)
    except ImageError:
        if count_pages(header) > 1:
            raise damaged(path) from None
        return (Directory(),)
    check_parts(path, len(pages))
    return pages
