"""Libvips, imported when it is used, and what its refusals mean."""

from pathlib import Path
from typing import Any

from ..errors import ImageError, import_extra
from .limits import damaged

_CORRUPT = "Corrupt JPEG data"  # as all of libjpeg's warnings about the coded pixels begin


def import_vips() -> Any:
    """Libvips, when a photograph is really read or written: training needs none, and is done where there is none.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_extra("pyvips", "photographs are read and written by libvips: pip install 'pyvips[binary]'")


def pass_through(image: Any, path: Path) -> None:
    """Decode a page strip by strip and keep nothing of it, so that a damaged one is refused before it takes memory.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is not enough to decode it.
    """
    try:
        image.avg()
    except import_vips().Error as error:
        raise blame(error, path) from None


def shrink(image: Any, most: int) -> Any:
    """An image reduced to sides of about `most` px at most, by whole numbers; of a narrow one no side gets lost."""
    times = max(1, -(-max(image.width, image.height) // most))
    return image.shrink(min(times, image.width), min(times, image.height)) if times > 1 else image


def blame(error: Exception, path: Path) -> Exception:
    """What to raise for an error of libvips at a file."""
    if "out of memory" in str(error):
        return MemoryError(str(error))
    if "codec" in str(error).lower():
        return ImageError(f"{path} is compressed in a way that libvips does not decode here; save it as PNG or JPEG")
    return damaged(path)


def is_corrupt_jpeg(error: ImageError) -> bool:
    """Whether it was raised for a warning of libjpeg about coded pixels."""
    return _CORRUPT in str(error.__context__)
