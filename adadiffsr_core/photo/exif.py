"""EXIF blocks as a photograph's result needs them: upright, of its own size and resolution, without a thumbnail."""

import struct
from itertools import islice

from ..errors import ImageError
from .tiff_tree import Directory, read_directories, write_directories

_PREFIX = b"Exif\0\0"
_EXIF, _GPS = 0x8769, 0x8825
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_WIDTH, _HEIGHT = 0xA002, 0xA003
# Description, make, model, software, date, artist, host, rating, copyright, Windows' title to subject.
_WORDS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0))


def read_exif(block: bytes, page: int = 0) -> Directory | None:
    """What an EXIF block, or a page of a TIFF, says about the photograph; None if nothing.

    What says how the pixels are stored is left out, and so is the thumbnail.
    """
    try:
        directories = read_directories(block.removeprefix(_PREFIX))
        whole = next(islice(directories, page, None), Directory())
    except ImageError:
        return None  # a photograph is not refused for what was said about it
    tags = {tag: whole.tags[tag] for tag in _WORDS if tag in whole.tags}
    below = {tag: whole.below[tag] for tag in (_EXIF, _GPS) if tag in whole.below}
    return Directory(tags=tags, below=below) if tags or below else None


def read_dpi(block: bytes) -> tuple[float, float] | None:
    """Dots per inch, across and down, that an EXIF block gives; None if none, or none that can be."""
    try:
        tags = next(read_directories(block.removeprefix(_PREFIX)), Directory()).tags
        pairs = [struct.unpack("<II", tags[tag][1]) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
        unit = struct.unpack("<H", tags[_UNIT][1])[0] if _UNIT in tags else 2
        across, down = ((2.54 if unit == 3 else 1) * top / bottom for top, bottom in pairs)
    except (ImageError, KeyError, struct.error, ZeroDivisionError):
        return None
    return (across, down) if unit in (2, 3) else None


def exif_for(exif: Directory | None, size: tuple[int, int], dpi: tuple[float, float] | None) -> Directory | None:
    """The directory that goes with a result, for whatever file.

    Args:
        exif: the photograph's.
        size: (height, width) of the result, px.
        dpi: dots per inch, across and down.

    Returns:
        None if there is nothing to say.
    """
    if exif is None and dpi is None:
        return None
    tags, below = dict(exif.tags) if exif else {}, dict(exif.below) if exif else {}
    directory = Directory(tags=tags, below=below)
    directory.put(_ORIENTATION, "H", 1)
    if dpi is not None:
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), dpi, strict=True):
            directory.put(tag, "II", round(value * 1000), 1000)
        directory.put(_UNIT, "H", 2)
    if _EXIF in below:
        inner = below[_EXIF]
        directory.below[_EXIF] = Directory(tags=dict(inner.tags), below=inner.below)
        directory.below[_EXIF].put(_WIDTH, "I", size[1])
        directory.below[_EXIF].put(_HEIGHT, "I", size[0])
    return directory


def exif_to_block(exif: Directory) -> bytes:
    """An EXIF block without the marker that only JPEG wants."""
    return write_directories([exif])


def put_into_page(page: Directory, exif: Directory) -> None:
    """Let a page of a TIFF say what the EXIF says, except for tags that the page has already."""
    page.tags = exif.tags | page.tags
    page.below |= exif.below
