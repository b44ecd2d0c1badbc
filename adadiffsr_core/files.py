"""Files that appear whole or not at all, and what can be known beforehand about whether they will."""

import errno
import hashlib
import io
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .disk import free_on_disk, is_disk_full, takes_no_more_files
from .errors import ConfigError, DiskError
from .text import in_words, one_line, quoted

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

FileState = tuple[int, int, int]  # its node, bytes, and time of its last change, ns

_LONGEST_NAME = 255  # bytes, on most file systems
_PART = 2**20  # bytes of a file at a time
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³")}


def check_file_name(name: str) -> None:
    """Refuse a name that a file of ours should not get, since some system cannot keep it or it shows as another.

    Files that exist are read whatever their names are.

    Raises:
        ConfigError: it is such a name.

    Source: decision D61.
    """
    if reason := _find_fault(name):
        raise ConfigError(f"{quoted(name, 80)} cannot be a file's name: {reason}; choose a plain name such as my_file")


def _find_fault(name: str) -> str:
    if one_line(name) != name:
        return "it holds codes that are not seen, or half a character"
    if len(name.encode()) > _LONGEST_NAME:
        return f"it has more than {_LONGEST_NAME} bytes"
    if name.endswith((".", " ")):
        return "it ends in a dot or a blank, which Windows leaves out"
    if name.partition(".")[0].rstrip().lower() in _DEVICES:
        return "Windows keeps it for a device"
    return ""


def fit_name(stem: str, ending: str = "", most: int = _LONGEST_NAME) -> str:
    """A file's name of these two; a stem that is too long for that is cut, and told from all others by a hash of it.

    Args:
        stem: of at least one letter.
        ending: what follows it, far shorter than `most`.
        most: bytes that the name may have.
    """
    encoded, room = os.fsencode(stem), most - len(os.fsencode(ending))
    if len(encoded) <= room:
        return f"{stem}{ending}"
    digest = hashlib.blake2b(encoded, digest_size=8).hexdigest()
    return f"{encoded[: room - 20].decode(errors='ignore')}.{digest}{ending}"


@contextmanager
def whole_file(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`, moved onto it only if the block ends well.

    The folder is created if need be, and a link is written through: it stays, and the file that it names is replaced.
    Whatever stops the block, Ctrl-C included, an old file stays as it was and nothing else stays behind.

    Args:
        path: of the file.
        folder: of the temporary path, on the same disk; where the process is killed, it stays there.

    Raises:
        DiskError: the disk is full.
        OSError: the path is no ordinary file, such as a folder or a device, which is never replaced.
    """
    target = _follow(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not of the path's own name, which may be as long as names can be.
    partial = (folder or target.parent) / f".{secrets.token_hex(8)}{path.suffix}"
    try:
        with name_full_disk(path):
            yield partial
            partial.replace(target)
    finally:
        try_remove(partial)


def try_remove(path: Path) -> None:
    """Remove a file if it is there and can be, silently, so that cleaning up never hides the error before it.

    A disk that is read-only refuses to remove even what is not there.
    """
    with suppress(OSError):
        path.unlink(missing_ok=True)


def disk_full(path: Path) -> DiskError:
    """What to raise where there is no room for a file."""
    folder = _follow(path).parent
    if takes_no_more_files(folder):
        return DiskError(f"{path} cannot be written: its disk has room for no more files; remove some")
    free = in_words(free_on_disk(folder))
    return DiskError(f"{path} cannot be written: its disk is full, {free} are free; make room")


@contextmanager
def name_full_disk(path: Path) -> Iterator[None]:
    """Say of a full disk, in the block, which file it is in the way of.

    Raises:
        DiskError: the disk is full.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise disk_full(path) from error


class Lock:
    """A file that one process at a time holds; whatever ends the process lets it go.

    Args:
        path: of the file; its folder is made if need be.

    Attributes:
        is_held: whether this process has it. Where file systems know of no locks everybody has.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            path.parent.mkdir(exist_ok=True)
            try:
                file = path.open("ab")
            except FileNotFoundError:  # who had it removed the folder meanwhile
                continue
            self._file, self.is_held = file, _try_lock(file)
            # Who had it may have removed the file, and then nobody else would see that it is held.
            if not self.is_held or (path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))):
                break
            file.close()
        if not self.is_held:
            self._file.close()

    def release(self, *, remove: bool = False) -> None:
        """Let it go.

        Args:
            remove: the file as well.
        """
        if remove and os.name == "nt":  # where open files cannot be removed
            self._file.close()
        if remove:
            try_remove(self.path)
        self._file.close()


def _try_lock(file: IO[bytes]) -> bool:
    """Whether nobody else holds it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def check_writable(path: Path) -> None:
    """Refuse a path that `whole_file` could not write, before the work is done.

    Raises:
        OSError: it is no ordinary file, it or its folder is protected, or its folder does not exist.
    """
    target = _follow(path)
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is protected against writing; choose another output", str(path))
    folder = target.parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"the folder {folder} does not exist; create it first", str(path))
    try:
        check_folder(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def check_folder(folder: Path) -> None:
    """Refuse a folder, which is there, that `whole_file` could make no file in.

    Raises:
        OSError: its disk or the folder is protected; `strerror` names the folder, and `filename` nothing.
    """
    probe = folder / f".{secrets.token_hex(8)}"
    try:
        # Tried rather than asked: permissions say nothing of a file system that is read-only, least of all to root.
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        told = f"the folder {folder} cannot be written to ({error.strerror}); choose another output"
        raise OSError(error.errno, told) from None
    finally:
        try_remove(probe)


def read_small_file(path: Path, most: int) -> bytes:
    """The content of a file that somebody else may have put there and that is small if it is what it should be.

    A pipe or a device might never end, nor is memory given to whatever has the name.

    Args:
        path: of the file.
        most: bytes.

    Raises:
        OSError: it is missing, no ordinary file, or larger; `strerror` says which.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {in_words(most)}", str(path))
    return content


def fingerprint_content(file: Path | bytes) -> str:
    """A hash of one file's bytes, which may have been read already."""
    digest = hashlib.blake2b()
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as opened:
        while part := opened.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def look_at(path: Path) -> FileState | None:
    """What changes when a file does; None of one that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def free_bytes(path: Path) -> tuple[int, int]:
    """The file system that a file in an existing folder would be on (its number), and what is free there, in bytes.

    Raises:
        OSError: the folder is gone.
    """
    folder = _follow(path).parent
    return folder.stat().st_dev, shutil.disk_usage(folder).free


def follow_links(path: Path) -> Path:
    """The absolute path that links lead to; of a circle of them, one of its links. What no file can be called stays.

    Not `Path.resolve`, which before Python 3.13 raises RuntimeError at a circle.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # NUL, or a lone surrogate
        return path.absolute()


def _follow(path: Path) -> Path:
    """Where a link leads, even if nothing is there yet; what is there must be an ordinary file.

    Raises:
        OSError: it is something else, or the link leads in a circle.
    """
    target = follow_links(path)
    if target.is_symlink():
        raise OSError(errno.ELOOP, "the link leads in a circle; name a file", str(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file", str(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "is no ordinary file; name one, or one that does not exist yet", str(path))
    return target
