"""Photographs as files to train on: found, read, and tried before a run begins, so that none of them ends it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ConfigError, ImageError
from ..files import whole_file
from ..photo.limits import check_bytes
from ..photo.pillow_files import open_picture, quiet_pillow
from ..text import shown
from .origin import read_note

R = TypeVar("R")

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff"})
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")
# Of what is trained on: a file within them that proves damaged at its end has cost 300 MB and a second.
MAX_PIXELS, MAX_BYTES = 2**26, 2**27


def find_images(folders: Iterable[Path]) -> list[Path]:
    """All jpg, png, webp, avif and tif files in folders and their sub-folders, sorted; hidden files are left out.

    Raises:
        ImageError: a folder does not exist, or there is no image in any of them.
    """
    folders = list(folders)
    # pathlib's raises for names that are too long.
    missing = [str(folder) for folder in folders if not os.path.isdir(folder)]  # noqa: PTH112
    if missing:
        raise ImageError(f"{shown(', '.join(missing))} is not a folder; name folders of photographs")
    files = {path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES}
    images = sorted(path for path in files if not path.name.startswith(".") and path.is_file())
    if not images:
        raise ImageError(f"no image ({', '.join(sorted(PHOTO_SUFFIXES))}) in {shown(', '.join(map(str, folders)))}")
    return images


def load_image(path: Path) -> np.ndarray:
    """Read an 8-bit picture upright: uint8 `[H,W,3]` RGB.

    Source: decision D63.

    Raises:
        ImageError: the file is missing, damaged, no image, too large, or has more than 8 bits.
    """
    try:
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} cannot be read as an image: it is no file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ImageError(f"{path} has {size / 2**20:,.0f} MiB; at most {MAX_BYTES >> 20} are trained on")
            with open_picture(file, FORMATS) as image:
                _check_header(image, path, size)
                with quiet_pillow:
                    return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{path} is larger than {MAX_PIXELS // 10**6} megapixels; make it smaller first") from None
    except Exception as error:  # Pillow's readers raise almost anything at what is damaged
        raise ImageError(f"{path} cannot be read as an image: {_reason(error)}") from error


def _check_header(image: Image.Image, path: Path, size: int) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{path} has {image.width} x {image.height} px; at most {MAX_PIXELS // 10**6} megapixels are trained on, "
            "make it smaller first"
        )
    if image.mode[0] in "IF":
        raise ImageError(f"{path} has more than 8 bits a channel; convert it to 8 bits first")
    check_bytes(path, size, (image.format or "").lower(), image.width * image.height, 4, getattr(image, "n_frames", 1))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is damaged, or none of {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it is damaged ({shown(str(error) or type(error).__name__, 80)})"


def read_in_threads(read: Callable[[Path], R], paths: Iterable[Path]) -> Iterator[R]:
    """What `read` makes of each file, in their order; whoever stops asking stops the reading."""
    with ThreadPoolExecutor() as readers:
        try:
            yield from readers.map(read, paths)
        finally:
            readers.shutdown(wait=False, cancel_futures=True)


def keep_sound(
    paths: Sequence[Path],
    tell: Callable[[str], object],
    note: Path | None = None,
    on_file: Callable[[], object] = lambda: None,
) -> list[Path]:
    """Those photographs that can be read, in their order.

    Each is decoded, since nothing less finds a file that was cut short or bears a wrong size. It is done before
    anything is drawn, so that what a step draws does not depend on when a damaged one would have been met.

    Source: decision D63.

    Args:
        paths: of the photographs.
        tell: told one sentence for each that is left out.
        note: a file to note the verdicts in, so that they hold until a photograph changes; written only if it is given.
        on_file: called after each file that was tried, and may raise to end it.

    Raises:
        ImageError: there is none that can be read.
    """
    key = f"{PIL.__version__} {fingerprint_versions(paths)}"
    faults = None if note is None else _read_verdicts(note, key, len(paths))
    if faults is None:
        faults = {}
        for index, fault in enumerate(read_in_threads(_find_fault, paths)):
            on_file()
            if fault:
                faults[index] = fault
        if note is not None:
            held = {"photographs": key, "left_out": {str(index): fault for index, fault in faults.items()}}
            with whole_file(note) as partial:
                partial.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
    if len(faults) == len(paths):
        first = next(iter(faults.values()), "there are no files")
        raise ImageError(f"none of {len(paths)} photographs can be read ({first}); name a folder of others")
    for fault in faults.values():
        tell(f"{fault}; it is left out")
    return [path for index, path in enumerate(paths) if index not in faults]


def _find_fault(path: Path) -> str:
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return ""


def _read_verdicts(note: Path, key: str, count: int) -> dict[int, str] | None:
    """What was noted of the very same files, or None."""
    try:
        held = read_note(note) if note.exists() else None
        if not isinstance(held, dict) or held.get("photographs") != key:
            return None
        faults = {int(index): str(fault) for index, fault in held["left_out"].items()}
    except (ConfigError, AttributeError, KeyError, TypeError, ValueError):
        return None  # found out anew
    return faults if all(0 <= index < count for index in faults) else None


def fingerprint_versions(paths: Sequence[Path]) -> str:
    """Of names, sizes and times of files, but not of where they are.

    Raises:
        ImageError: one is gone.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise ImageError(f"{path} cannot be read as an image: {error.strerror}") from error
        digest.update(os.fsencode(f"{path.name}\t{status.st_size}\t{status.st_mtime_ns}\n"))
    return digest.hexdigest()
