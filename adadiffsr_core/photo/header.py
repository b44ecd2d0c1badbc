"""What libvips reads out of the header of a file: its pages, motion, profile and notes."""

import re
from typing import Any

from ..errors import ImageError
from .containers import Motion, read_png_texts
from .exif import read_dpi, read_exif
from .tiff_tree import read_directories, to_numbers
from .value import Notes
from .vips import import_vips

_SMALLER_OR_MASK = 1 | 4  # of TIFF's NewSubfileType
_LOADERS = ("png", "jpeg", "webp", "tiff", "gif", "heif")


def open_header(encoded: bytes) -> Any:
    """The picture's header, or None if libvips does not know the file."""
    pyvips = import_vips()
    try:
        image = pyvips.Image.new_from_buffer(encoded, "", access="sequential", fail_on="error")
    except pyvips.Error:
        return None
    return image if image.get("vips-loader").startswith(_LOADERS) else None


def find_pages(header: Any, encoded: bytes) -> tuple[int, ...]:
    """Pages in their order, a HEIF's primary first, without a TIFF's smaller copies and masks."""
    count = header.get("n-pages") if header.get_typeof("n-pages") else 1
    pages = list(range(count))
    loader = header.get("vips-loader")
    if loader.startswith("heif") and header.get_typeof("heif-primary"):
        pages.sort(key=lambda page: page != header.get("heif-primary"))
    if loader.startswith("tiff") and count > 1:
        try:
            kinds = [directory.tags.get(0xFE) for directory in read_directories(encoded)]
            pages = [n for n, kind in enumerate(kinds) if not (kind and to_numbers(*kind)[0] & _SMALLER_OR_MASK)]
        except (ImageError, KeyError):
            pass
    return tuple(page for page in pages if page < count) or (0,)


def read_motion(header: Any) -> Motion | None:
    """Delays and repetitions of an animation, or None."""
    if not header.get_typeof("delay") or header.get("n-pages") < 2:
        return None
    count, delays = header.get("n-pages"), [max(0, delay) for delay in header.get("delay")]
    delays = (delays or [100]) + count * (delays or [100])[-1:]
    return Motion(delays_ms=tuple(delays[:count]), plays=header.get("loop") if header.get_typeof("loop") else 0)


def read_notes(header: Any, encoded: bytes, page: int = 0) -> Notes:
    """What the file says besides what is needed to show it."""
    is_tiff = header.get("vips-loader").startswith("tiff")
    block = encoded if is_tiff else bytes(header.get("exif-data")) if header.get_typeof("exif-data") else None
    dpi: tuple[float, float] | None = (25.4 * header.xres, 25.4 * header.yres)
    if header.xres == header.yres == 1:  # libvips' way of saying that it knows of none
        dpi = None if block is None else read_dpi(block)
    return Notes(
        dpi=dpi if dpi is not None and all(0.1 <= dots <= 65535 for dots in dpi) else None,
        exif=None if block is None else read_exif(block, page if is_tiff else 0),
        blobs=tuple(
            (name, _upright(header.get(name))) for name in ("xmp-data", "iptc-data") if header.get_typeof(name)
        ),
        texts=read_png_texts(encoded),
    )


def _upright(blob: bytes) -> bytes:
    """XMP that does not turn the picture again, which is upright by now; anything else as it is."""
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", bytes(blob))


def read_profile(image: Any) -> bytes | None:
    """The colour profile, or None if there is none or it is damaged."""
    if not image.get_typeof("icc-profile-data"):
        return None
    profile = bytes(image.get("icc-profile-data"))
    return profile if profile[36:40] == b"acsp" else None
