"""EXIF blocks as a photograph's result needs them: upright, of its own size and resolution, without a thumbnail."""

import struct

from ..errors import ImageError
from .tiff_tree import Directory, find_circles, read_directories

_PREFIX = b"Exif\0\0"
_EXIF, _GPS = 0x8769, 0x8825
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_WIDTH, _HEIGHT = 0xA002, 0xA003
# Description, make, model, software, date, artist, host, rating, copyright, Windows' title to subject.
_WORDS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0))


def open_block(block: bytes) -> Directory:
    """All that an EXIF block says; nothing if it is damaged: no photograph is refused for what is said about it."""
    try:
        return next(read_directories(block.removeprefix(_PREFIX)), Directory())
    except ImageError:
        return Directory()


def drop_circular(encoded: bytes) -> bytes:
    """The file without EXIF blocks whose directories point at each other: libexif, within libvips, takes minutes there.

    Raises:
        ImageError: there are very many blocks.
    """
    places = find_circles(encoded)
    if not places:
        return encoded
    harmless = bytearray(encoded)
    for place in places:
        harmless[place : place + 4] = bytes(4)
    return bytes(harmless)


def read_exif(whole: Directory) -> Directory | None:
    """What an EXIF block, or a page of a TIFF, says about the photograph; None if nothing.

    What says how the pixels are stored is left out, and so is the thumbnail.
    """
    tags = {tag: whole.tags[tag] for tag in _WORDS if tag in whole.tags}
    below = {tag: whole.below[tag] for tag in (_EXIF, _GPS) if tag in whole.below}
    return Directory(tags=tags, below=below) if tags or below else None


def read_dpi(whole: Directory) -> tuple[float, float] | None:
    """Dots per inch, across and down, that an EXIF block or a page gives; None if none, or none that can be."""
    tags = whole.tags
    try:
        pairs = [struct.unpack("<II", tags[tag][1]) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
        unit = struct.unpack("<H", tags[_UNIT][1])[0] if _UNIT in tags else 2
        across, down = ((2.54 if unit == 3 else 1) * top / bottom for top, bottom in pairs)
    except (KeyError, struct.error, ZeroDivisionError):
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
