"""Room on disks: how much there is, and taking it before it is needed."""

import errno
import os
import shutil
from pathlib import Path
from typing import IO

from .errors import DiskError
from .text import in_words

_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}
_SAYINGS = ("No space left on device", "quota exceeded", "os error 112")  # safetensors has no number to ask for
_CHUNK = 2**20


def is_disk_full(error: BaseException) -> bool:
    """Whether room on a disk ran out, under any of its names; a `DiskError` has said so already."""
    if isinstance(error, DiskError):
        return False
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(saying in str(error) for saying in _SAYINGS)


def free_on_disk(folder: Path) -> int:
    """Bytes that are free where `folder` is, or will be.

    Raises:
        OSError: nobody says.
    """
    return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.is_dir())).free


def takes_no_more_files(folder: Path) -> bool:
    """Whether a disk has its number of files, and they are all there; of many nobody says, and some have none."""
    if not hasattr(os, "statvfs"):
        return False
    try:
        told = os.statvfs(folder)
    except OSError:
        return False
    return told.f_files > 0 and told.f_favail == 0


def check_room(folder: Path, needed: int, advice: str = "make room") -> None:
    """Refuse what the disk of a folder cannot hold.

    Args:
        folder: existing or not.
        needed: bytes.
        advice: what the user can do.

    Raises:
        DiskError: more is needed than is free.
    """
    free = free_on_disk(folder)
    if needed > free:
        raise DiskError(f"{folder} needs {in_words(needed)} of disk space, and {in_words(free)} are free; {advice}")


def allocated_bytes(path: Path) -> int:
    """What a file takes of its disk, which for one with holes is less than its length; 0 where there is none."""
    return _allocated(path.stat()) if path.is_file() else 0


def _allocated(stat: os.stat_result) -> int:
    blocks = getattr(stat, "st_blocks", None)  # Windows does not say, and makes no holes unasked
    return stat.st_size if blocks is None else min(stat.st_size, blocks * 512)


def reserve(file: IO[bytes], size: int, path: Path) -> None:
    """Make a file `size` bytes long and give every byte its place on the disk; what is in it stays.

    Where a disk is full, writing to a mapped file without a place for it kills the process (SIGBUS). So nothing of ours
    is written to in memory before this.

    Args:
        file: open for reading and writing, no longer than `size`.
        size: in bytes.
        path: of the file, or of what it is for, as the message names it.

    Raises:
        DiskError: there is no room.
        OSError: the file cannot be written.

    Source: decision D60.
    """
    file.flush()
    needed = size - _allocated(os.fstat(file.fileno()))
    check_room(path, needed)
    try:
        if not _allocate(file.fileno(), size):
            _write_out(file, size)
    except OSError as error:
        if error.errno not in {*_FULL, errno.EFBIG}:
            raise
        reason = os.strerror(error.errno or 0).lower()
        free = in_words(free_on_disk(path))
        raise DiskError(
            f"{path} needs {in_words(needed)} of disk space ({reason}), and {free} are free; make room"
        ) from error


def _allocate(descriptor: int, size: int) -> bool:
    """Ask the system for the room; whether it can be asked."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(descriptor, 0, max(1, size))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
            return False
        raise
    return True


def _write_out(file: IO[bytes], size: int) -> None:
    """Write every byte where the system cannot be asked for room: what is there again, and zeros beyond."""
    stat = os.fstat(file.fileno())
    if stat.st_size == size == _allocated(stat):
        return
    for start in range(0, size, _CHUNK):
        length = min(_CHUNK, size - start)
        file.seek(start)
        part = file.read(length)
        file.seek(start)
        file.write(part.ljust(length, b"\0"))
    file.flush()
