"""What libvips reads out of the header of a file: its pages, motion, profile and notes."""

import re
from typing import Any

from .checks import is_dpi
from .comments import read_comments
from .containers import Motion, read_png_colours, read_png_texts
from .exif import open_block, read_dpi, read_exif
from .tiff_tree import Directory, read_directories
from .value import Notes
from .vips import import_vips

_KIND, _SMALLER_OR_MASK = 0xFE, 1 | 4  # TIFF's NewSubfileType
_LOADERS = ("png", "jpeg", "webp", "tiff", "gif", "heif")


def open_header(encoded: bytes) -> Any:
    """The picture's header, or None if libvips does not know the file."""
    pyvips = import_vips()
    try:
        source = pyvips.Source.new_from_memory(encoded)
        image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error")
    except pyvips.Error:
        return None
    return image if is_kind(image, *_LOADERS) else None


def count_pages(header: Any) -> int:
    """Pages or frames that libvips found."""
    return int(header.get("n-pages")) if header.get_typeof("n-pages") else 1


def is_kind(header: Any, *kinds: str) -> bool:
    """Whether the header is that of such a file, by libvips' names: `tiff`, `jpeg`."""
    return bool(header.get("vips-loader").startswith(kinds))


def read_tiff_pages(encoded: bytes) -> tuple[Directory, ...]:
    """The pages of a TIFF without its smaller copies and masks, or the first if it has no others.

    Raises:
        ImageError: its structure is damaged.
    """
    directories = tuple(read_directories(encoded))
    # A page that does not say is one of its own.
    return tuple(page for page in directories if not max(0, page.number(_KIND)) & _SMALLER_OR_MASK) or directories[:1]


def find_pages(header: Any) -> tuple[int, ...]:
    """Pages of what is no TIFF in their order, a HEIF's primary first."""
    pages = list(range(count_pages(header)))
    if is_kind(header, "heif") and header.get_typeof("heif-primary"):
        pages.sort(key=lambda page: page != header.get("heif-primary"))
    return tuple(pages)


def read_motion(header: Any) -> Motion | None:
    """Delays and repetitions of an animation, or None."""
    count = count_pages(header)
    if not header.get_typeof("delay") or count < 2:
        return None
    delays = [max(0, delay) for delay in header.get("delay")]
    delays = (delays or [100]) + count * (delays or [100])[-1:]
    return Motion(delays_ms=tuple(delays[:count]), plays=header.get("loop") if header.get_typeof("loop") else 0)


def read_notes(header: Any, encoded: bytes, page: Directory | None = None) -> Notes:
    """What the file says besides what is needed to show it.

    Args:
        header: what libvips read of it, or of its page.
        encoded: the file.
        page: of a TIFF.
    """
    if page is None:
        page = open_block(bytes(header.get("exif-data"))) if header.get_typeof("exif-data") else Directory()
    dpi: tuple[float, float] | None = (25.4 * header.xres, 25.4 * header.yres)
    if header.xres == header.yres == 1:  # libvips' way of saying that it knows of none
        dpi = read_dpi(page)
    return Notes(
        dpi=check_dpi(dpi),
        exif=read_exif(page),
        blobs=tuple(
            (name, turn_upright(header.get(name))) for name in ("xmp-data", "iptc-data") if header.get_typeof(name)
        ),
        texts=read_png_texts(encoded) + read_comments(encoded),
        colours=read_png_colours(encoded),
    )


def check_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """A resolution, or None if it can be none."""
    return dpi if is_dpi(dpi) else None


def turn_upright(blob: bytes) -> bytes:
    """XMP that does not turn the picture again, which is upright by now; anything else as it is."""
    return re.sub(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8](?=\s*[\"'<])", rb"\g<1>1", bytes(blob))


def read_profile(image: Any) -> bytes | None:
    """The colour profile, or None if there is none or it is damaged."""
    if not image.get_typeof("icc-profile-data"):
        return None
    return check_profile(bytes(image.get("icc-profile-data")))


def check_profile(profile: bytes | None) -> bytes | None:
    """The profile, or None if it is damaged."""
    return profile if profile is not None and profile[36:40] == b"acsp" else None
