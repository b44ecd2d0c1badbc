"""What libvips does not read: the frames of animated PNG and AVIF, and BMP."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ImageError
from .containers import Motion, is_animated_png
from .exif import open_block, read_exif
from .header import check_dpi, check_profile, turn_upright
from .limits import check_parts, check_pixels, damaged
from .pillow_files import open_picture
from .value import Notes

OTHER_FORMATS = ("AVIF", "BMP", "DIB")
# Of all that Pillow's readers raise, what a damaged file can make them raise.
DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, ArithmeticError, TypeError, AttributeError, RuntimeError,
    AssertionError, struct.error, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PillowFile:
    """A file that Pillow opened.

    Attributes:
        path: of the file.
        width, height: px.
        count: frames.
        motion: of several frames.
        icc_profile: bytes of the colour profile, or None if there is none or it is damaged.
        notes: what else the file says.
    """

    path: Path
    width: int
    height: int
    count: int
    motion: Motion | None
    icc_profile: bytes | None
    notes: Notes
    _encoded: bytes

    def read(self) -> Iterator[tuple[NDArray[np.uint8], bool]]:
        """Every frame as levels [H, W, channels], all of one kind, and whether the last channel is alpha.

        Raises:
            ImageError: a frame is damaged.
        """
        try:
            image = _open(self._encoded)
            mode = _plain_mode(image)
            for frame in _frames(image):
                levels = np.array(frame.convert(mode))
                yield levels.reshape(self.height, self.width, -1), mode in ("LA", "RGBA")
        except DAMAGE:
            raise damaged(self.path) from None


def open_with_pillow(encoded: bytes, path: Path) -> PillowFile | None:
    """What a file's frames are, or None if it is none of those that are read here."""
    try:
        image = _open(encoded)
        check_pixels(path, image.width, image.height)
        check_parts(path, getattr(image, "n_frames", 1))
        delays = [round(frame.info.get("duration", 0)) for frame in _frames(image)]
    except Image.DecompressionBombError:
        raise ImageError(f"{path} has far too many pixels; make it smaller first") from None
    except ImageError:
        raise
    except DAMAGE:
        return None
    motion = Motion(delays_ms=tuple(delays), plays=image.info.get("loop", 0)) if len(delays) > 1 else None
    return PillowFile(
        path=path,
        width=image.width,
        height=image.height,
        count=len(delays),
        motion=motion,
        icc_profile=check_profile(image.info.get("icc_profile")),
        notes=_read_notes(image),
        _encoded=encoded,
    )


def _read_notes(image: Image.Image) -> Notes:
    xmp = image.info.get("xmp")
    return Notes(
        dpi=check_dpi(image.info.get("dpi")),
        exif=read_exif(open_block(image.info.get("exif", b""))),
        blobs=(("xmp-data", turn_upright(xmp)),) if isinstance(xmp, bytes) else (),
    )


def _open(encoded: bytes) -> Image.Image:
    # Stills in PNG are libvips' affair: it refuses those that are cut short.
    formats = ("PNG",) if is_animated_png(encoded) else OTHER_FORMATS
    return open_picture(io.BytesIO(encoded), formats)


def _frames(image: Any) -> Iterator[Image.Image]:
    """The frames of an animation, without a still that is shown only where there is no animation."""
    count = getattr(image, "n_frames", 1)
    for number in range(int(getattr(image, "default_image", False)), count):
        image.seek(number)
        if count > 1:
            image.load()  # some durations are known only then
        yield image


def _plain_mode(image: Image.Image) -> str:
    is_grey = image.mode in ("1", "L", "LA", "I", "I;16")
    if image.has_transparency_data:
        return "LA" if is_grey else "RGBA"
    return "L" if is_grey else "RGB"
