"""How large a photograph's file may be, decided by its first bytes and its header, before anything is read or decoded.

Source: decision D64.
"""

import struct
from pathlib import Path

from ..errors import ImageError

MAX_PIXELS = 2**28  # 16384 x 16384, 3 GB as float32 RGB; a few kilobytes of file can claim far more
MAX_SIDE = 2**18  # a decoder holds some lines at a time: of one of 4 million px they are 300 MB
MAX_CHANNELS = 5  # four inks and transparency
MAX_PARTS = 10_000  # pages, or frames: five minutes of them
HELD_BYTES = 2**26  # files up to here are read whole at once
SURE_PIXELS = 2**26  # larger pictures are decoded in passing first, to see whether they are whole
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
KINDS = "PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP"
SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", *TIFFS)
_DIB_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
# The most that a byte can stand for: deflate makes 1032 bytes of one, and of 8 px each; a block of JPEG takes a bit.
_PIXELS_OF_A_BYTE = {"png": 8 * 1032 + 64, "jpeg": 8 * 64}


def damaged(path: Path) -> ImageError:
    """What to raise for a file that is not whole."""
    return ImageError(f"{path} is damaged or cut short; get a whole copy of it")


def no_picture(path: Path) -> ImageError:
    """What to raise for a file of a kind that is not read, as far as can be told."""
    return ImageError(f"{path} is damaged, or is no {KINDS} picture")


def may_be_picture(head: bytes) -> bool:
    """Whether a file that begins with these 12 bytes could be of a kind that is read."""
    is_dib = len(head) >= 4 and struct.unpack("<I", head[:4])[0] in _DIB_HEADERS
    return head.startswith((*SIGNATURES, b"BM")) or head[8:12] == b"WEBP" or head[4:8] == b"ftyp" or is_dib


def check_pixels(path: Path, width: int, height: int) -> None:
    """Refuse to decode a picture into memory that has too many pixels, or too many in a row.

    Raises:
        ImageError: it has.
    """
    check_sides(path, width, height)
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path} has {width} x {height} px; at most {MAX_PIXELS // 10**6} megapixels fit into memory")


def check_sides(path: Path, width: int, height: int) -> None:
    """Refuse a picture whose sides are too long even for work in bands.

    Raises:
        ImageError: they are.
    """
    if max(width, height) > MAX_SIDE:
        raise ImageError(f"{path} has {width} x {height} px; at most {MAX_SIDE:,} px a side fit")


def check_kind(path: Path, channels: int, kind: str) -> None:
    """Refuse what is not stored as photographs are.

    Raises:
        ImageError: there are too many channels, or the values are neither of 8 nor of 16 bits.
    """
    if channels > MAX_CHANNELS:
        raise ImageError(f"{path} has {channels} channels; save it as grey or RGB, with or without transparency")
    if kind not in ("uchar", "ushort"):
        raise ImageError(f"{path} holds {kind} values; save it with 8 or 16 bits per channel")


def check_parts(path: Path, count: int) -> None:
    """Refuse a file with too many pages or frames.

    Raises:
        ImageError: it has.
    """
    if count > MAX_PARTS:
        raise ImageError(f"{path} has {count} pages or frames; at most {MAX_PARTS} are read")


def check_bytes(path: Path, size: int, loader: str, pixels: int, bytes_per_pixel: int, parts: int = 1) -> None:
    """Refuse a file that is too short for what its header says, or much too long.

    Args:
        path: of the file.
        size: bytes of the file.
        loader: what reads it, beginning with its kind in small letters.
        pixels: of one page or frame.
        bytes_per_pixel: when decoded.
        parts: pages or frames.

    Raises:
        ImageError: it is.
    """
    most = next((most for kind, most in _PIXELS_OF_A_BYTE.items() if loader.startswith(kind)), None)
    if most is not None and pixels > most * size:
        raise damaged(path)
    if size > HELD_BYTES + 2 * pixels * bytes_per_pixel * parts:
        raise ImageError(f"{path} has {size / 2**20:,.0f} MiB, far more than its pixels take; save it anew")
