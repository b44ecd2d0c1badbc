"""Photographs to files: encoded one by one, said about them what was said before, joined where there are several."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, DiskError, ImageError
from ..files import check_writable, whole_file
from ..text import quoted
from .checks import check_path, to_integer
from .comments import texts_to_comments
from .containers import (
    Insertion,
    Motion,
    embed_in_tiff,
    embed_in_webp,
    join_png,
    join_tiff,
    join_webp,
    jpeg_insertion,
    png_insertion,
)
from .exif import exif_for
from .value import Notes, Photo, photo_to_levels
from .vips import import_vips

WRITABLE = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
_SUFFIXES = ".png, .jpg, .jpeg, .webp, .tif, .tiff"  # those to propose
_MAX_SIDE = {"jpeg": 65535, "webp": 16383}
_DEFAULT_DPI = (72.0, 72.0)  # unset, libvips declares 25, and layout programs place huge pictures


def write_photo(photo: Photo, path: str | Path, quality: int = 95) -> None:
    """Write a photo in the format of the suffix; the file appears whole or not at all.

    PNG and TIFF keep 16 bits; JPEG and WebP have 8. The profile is embedded unless it is of another kind than the
    file's pixels, such as a grey profile in WebP, which has no grey. Of the notes, what the format can hold is written.

    Args:
        photo: values outside [0, 1] are clamped.
        path: ends in a suffix of `WRITABLE`; an existing file is replaced, and a link is written through.
        quality: 1 to 100, of JPEG and WebP; a lossless WebP is one again.

    Raises:
        ImageError: the format is unknown or cannot hold the transparency or the size, the picture has NaN, or the file
            cannot be written.
        ConfigError: `quality` is out of its range, or there is no photo.
    """
    check_output_path(path)
    write_stills([encode_photo(photo, path, quality)], path)


def encode_photo(photo: Photo, path: str | Path, quality: int = 95) -> bytes:
    """What `write_photo` would write.

    Raises:
        ImageError: as there, except that nothing is written.
        ConfigError: `quality` is out of its range.
    """
    path, pyvips = check_path(path), import_vips()
    if not isinstance(photo, Photo):
        raise ConfigError(f"what is written must be a Photo, such as read_photo() gives, got {quoted(photo, 80)}")
    whole = to_integer(quality)
    if whole is None or not 1 <= whole <= 100:
        raise ConfigError(f"quality goes from 1 to 100 in whole numbers, got {quoted(quality, 80)}")
    file_format = WRITABLE[path.suffix.lower()]
    check_output_fits(path, *photo.pixels.shape[1:], is_opaque=photo.is_opaque)
    if not bool(photo.pixels.isfinite().all()) or (photo.alpha is not None and not bool(photo.alpha.isfinite().all())):
        raise ImageError(f"{path} was not written: the picture holds values that are not numbers")
    try:
        return _embed(_encode(photo, file_format, whole), photo, file_format)
    except pyvips.Error as error:
        if "out of memory" in str(error):
            raise MemoryError(str(error)) from None
        raise ImageError(f"{path} was not written: the picture cannot be encoded as {file_format}") from None


def write_stills(
    stills: Sequence[bytes], path: str | Path, motion: Motion | None = None, size: tuple[int, int] = (0, 0)
) -> None:
    """Write what `encode_photo` gave for this path; several as frames or pages of one file.

    Args:
        stills: at least one; as many as `holds_all` allows.
        path: where to.
        motion: of frames, which have one size and kind.
        size: (height, width) of the frames, px.

    Raises:
        ImageError: the file cannot be written.
    """
    path = Path(path)
    encoded = stills[0] if len(stills) == 1 else _join(stills, WRITABLE[path.suffix.lower()], motion, size)
    try:
        with whole_file(path) as partial:
            partial.write_bytes(encoded)
    except DiskError:
        raise
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}") from None


def _join(stills: Sequence[bytes], file_format: str, motion: Motion | None, size: tuple[int, int]) -> bytes:
    if file_format == "tiff" or motion is None:
        return join_tiff(stills)
    return join_png(stills, motion) if file_format == "png" else join_webp(stills, motion, size)


def check_output_path(path: str | Path) -> None:
    """Refuse a path that `write_photo` cannot write, before the work is done.

    Raises:
        ImageError: the suffix names no supported format, or the file cannot be created or replaced.
    """
    path = check_path(path)
    try:
        if not path.is_dir() and path.suffix.lower() not in WRITABLE:
            raise ImageError(f"{path} names no format that can be written; end it in {_SUFFIXES}")
        check_writable(path)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from None


def check_output_fits(path: str | Path, height: int, width: int, *, is_opaque: bool) -> None:
    """Refuse a format that cannot hold such a picture, before the work is done.

    Args:
        path: ends in a suffix of `WRITABLE`.
        height: of the picture, px.
        width: of the picture, px.
        is_opaque: whether nothing is lost by leaving alpha out.

    Raises:
        ImageError: the format has no transparency, or no pictures of that size.
    """
    path = Path(path)
    file_format = WRITABLE[path.suffix.lower()]
    if file_format == "jpeg" and not is_opaque:
        raise ImageError(f"{path} cannot hold this photo's transparency; write {path.with_suffix('.png').name} instead")
    if max(height, width) > _MAX_SIDE.get(file_format, height + width):
        raise ImageError(f"{path} cannot hold {width} x {height} px; write {path.with_suffix('.png').name} instead")


def holds_all(path: Path, count: int, motion: Motion | None) -> bool:
    """Whether a file of this suffix holds so many frames (with `motion`) or pages (without)."""
    file_format = WRITABLE[path.suffix.lower()]
    return count == 1 or file_format == "tiff" or (motion is not None and file_format in ("png", "webp"))


def _encode(photo: Photo, file_format: str, quality: int) -> bytes:
    levels = photo_to_levels(photo, bit_depth=bit_depth_of(photo, file_format), with_alpha=file_format != "jpeg")
    image = describe_image(import_vips().Image.new_from_array(levels), photo, file_format)
    options = save_options(photo, file_format, quality, levels.nbytes)
    return bytes(getattr(image, f"{file_format}save_buffer")(**options))


def bit_depth_of(photo: Photo, file_format: str) -> int:
    """Bits of a level in a file of this kind."""
    return photo.bit_depth if file_format in ("png", "tiff") else 8


def describe_image(image: Any, photo: Photo, file_format: str) -> Any:
    """Libvips' image of a photo's levels, with what libvips itself writes of what is said about it."""
    pyvips = import_vips()
    grey, rgb = ("b-w", "srgb") if bit_depth_of(photo, file_format) == 8 else ("grey16", "rgb16")
    across, down = (dots / 25.4 for dots in photo.notes.dpi or _DEFAULT_DPI)
    described = image.copy(interpretation=grey if photo.is_grey else rgb, xres=across, yres=down)
    kind = b"GRAY" if photo.is_grey and file_format != "webp" else b"RGB "
    blobs = dict(photo.notes.blobs)
    if photo.icc_profile is not None and photo.icc_profile[16:20] == kind:
        blobs["icc-profile-data"] = photo.icc_profile
    for name, blob in blobs.items():
        described.set_type(pyvips.GValue.blob_type, name, blob)
    return described


def save_options(photo: Photo, file_format: str, quality: int, size: int) -> dict[str, Any]:
    """How libvips writes such a file; `size` is that of the levels, bytes."""
    webp = {"lossless": True, "exact": True} if photo.is_lossless_webp else {"Q": quality, "smart_subsample": True}
    options: dict[str, dict[str, Any]] = {
        "png": {"filter": "all"},  # half the size of libvips' default on photographs
        "jpeg": {"Q": quality, "optimize_coding": True},
        "webp": webp,
        "tiff": {"compression": "deflate", "predictor": "horizontal", "bigtiff": size > 2**31, "resunit": "inch"},
    }
    return {"keep": "icc|xmp|iptc"} | options[file_format]


def _embed(encoded: bytes, photo: Photo, file_format: str) -> bytes:
    """With the notes that libvips would not write as they are."""
    notes: Notes = photo.notes
    height, width = photo.pixels.shape[1:]
    if file_format == "webp":  # has no other place for the resolution
        return embed_in_webp(encoded, exif_for(notes.exif, (height, width), notes.dpi), (height, width))
    if file_format == "tiff":
        return embed_in_tiff(encoded, None if notes.exif is None else exif_for(notes.exif, (height, width), notes.dpi))
    return insertion_for(encoded, photo, (height, width), file_format).insert(encoded)


def insertion_for(head: bytes, photo: Photo, size: tuple[int, int], file_format: str) -> Insertion:
    """What is put into a PNG or JPEG of these first bytes and (height, width)."""
    notes = photo.notes
    exif = None if notes.exif is None else exif_for(notes.exif, size, notes.dpi)
    if file_format == "png":
        return png_insertion(exif, notes.texts, notes.colours)
    return jpeg_insertion(head, exif, notes.dpi or _DEFAULT_DPI, texts_to_comments(notes.texts))
