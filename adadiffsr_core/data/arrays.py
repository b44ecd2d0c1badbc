"""The arrays of a cache: files that are mapped into memory, whose room on the disk is taken before they are filled."""

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..disk import allocated_bytes, check_room, reserve
from ..errors import ConfigError
from ..files import try_remove, whole_file
from ..text import quoted, shown
from .origin import read_note

_HEADER = 128  # bytes of a file before its values


class Layout(NamedTuple):
    """Shape and type of an array."""

    shape: tuple[int, ...]
    dtype: type[np.generic] = np.float16

    @property
    def nbytes(self) -> int:
        """Of its file, about."""
        return _HEADER + math.prod(self.shape) * np.dtype(self.dtype).itemsize


Cache = Mapping[str, Layout]  # by the name of the array


def check_caches(caches: Mapping[Path, Cache], advice: str = "make room or choose another folder") -> None:
    """Refuse caches that their disk has no room for, before anything is made.

    Args:
        caches: by their folders, which all lie on one disk; what they hold already is not needed again.
        advice: what the user can do.

    Raises:
        DiskError: more is needed than is free.
    """
    needed = [
        max(0, layout.nbytes - allocated_bytes(folder / f"{name}.npy"))
        for folder, cache in caches.items()
        for name, layout in cache.items()
    ]
    check_room(Path(os.path.commonpath(caches)), sum(needed), advice)


def open_arrays(folder: Path, cache: Cache) -> dict[str, np.memmap]:
    """Create the arrays of a cache, all or none, or open them to go on filling them.

    Args:
        folder: of the cache; created if need be.
        cache: the arrays.

    Raises:
        ConfigError: one has another shape or type, or is damaged.
        DiskError: the disk has no room for them.

    Source: decision D60.
    """
    check_caches({folder: cache})
    missing = [folder / f"{name}.npy" for name in cache if not (folder / f"{name}.npy").exists()]
    try:
        return {name: _open_array(folder / f"{name}.npy", layout) for name, layout in cache.items()}
    except BaseException:
        for path in missing:
            try_remove(path)
        raise


def _open_array(path: Path, layout: Layout) -> np.memmap:
    shape, dtype = layout
    if not path.exists():
        _create_array(path, layout)
    array = map_array(path, "r+")
    if array.shape != shape:
        raise ConfigError(f"{path} has the shape {array.shape}, not {shape}; choose another cache folder")
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise ConfigError(f"{path} holds {array.dtype}, not {np.dtype(dtype)}; choose another cache folder")
    with path.open("r+b") as file:  # earlier versions left holes
        reserve(file, path.stat().st_size, path)
    return array


def _create_array(path: Path, layout: Layout) -> None:
    header = {
        "shape": layout.shape,
        "fortran_order": False,
        "descr": np.lib.format.dtype_to_descr(np.dtype(layout.dtype)),
    }
    with whole_file(path) as partial, partial.open("w+b") as file:
        np.lib.format.write_array_header_1_0(file, header)
        reserve(file, file.tell() + layout.nbytes - _HEADER, path)


def map_array(path: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
    """Open a file of a cache without reading it.

    Raises:
        ConfigError: it is missing, damaged, or no array of numbers.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of headers that it has to mend
            array: np.memmap = np.lib.format.open_memmap(path, mode)
        if array.dtype.kind not in "fiu" or array.size * array.itemsize > path.stat().st_size:
            raise ValueError("it holds no array of numbers")
    except Exception as error:  # numpy evaluates the header as Python, which raises what it likes
        reason = shown(str(error).strip() or type(error).__name__, 80)
        raise ConfigError(f"{path} cannot be read: {reason}; remove {path.parent} to make it anew") from error
    return array


def read_done(folder: Path, most: int) -> int:
    """How many entries of a cache are whole.

    Args:
        folder: the cache's.
        most: as many as it can hold.

    Raises:
        ConfigError: the note of it is damaged, or says more than that.
    """
    progress = folder / "progress.json"
    if not os.path.lexists(progress):
        return 0
    note = read_note(progress)
    done = note.get("done") if isinstance(note, dict) else None
    if type(done) is not int or not 0 <= done <= most:
        raise ConfigError(
            f"{progress} is damaged: {quoted(note, 80)} is no count of at most {most}; remove {folder} to make it anew"
        )
    return done


def write_done(folder: Path, done: int) -> None:
    """Note that so many are."""
    with whole_file(folder / "progress.json") as partial:
        partial.write_text(json.dumps({"done": done}))
