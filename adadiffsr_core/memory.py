"""Running out of memory: one error for all its names, and how much there is."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

# What libraries say in errors that have no class of their own: torch's allocator, oneDNN, libvips, the C++ library.
_SAYINGS = ("not enough memory", "allocate memory", "out of memory", "bad_alloc", "could not create a memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a device or on the processor."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)


@contextmanager
def name_out_of_memory() -> Iterator[None]:
    """Raise `MemoryError` where memory ran out under a name that nobody would look for.

    Raises:
        MemoryError: memory ran out inside.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or not is_out_of_memory(error):
            raise
        raise MemoryError(str(error)) from error


def available_bytes() -> int | None:
    """Memory of the processor that this process may still take, swap included; None where nobody says.

    The least of what the machine has, what the container is granted, and what `ulimit -v` leaves.
    """
    known = [amount for amount in (_of_machine(), _of_container(), _of_limit()) if amount is not None]
    return max(0, min(known)) if known else None


def _of_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes.get("SwapFree", 0))
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _of_container() -> int | None:
    """Control groups, version 2 with those around this one, and 1; their files' cache is given back when needed."""
    root = Path("/sys/fs/cgroup")
    try:
        inner = Path("/proc/self/cgroup").read_text().partition("0::/")[2].partition("\n")[0]
    except OSError:
        return None
    groups = [root / inner, *(root / inner).parents]
    places = [(group, "memory.max", "memory.current") for group in groups if group.is_relative_to(root)]
    places.append((root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"))
    known = [left for place in places if (left := _left_in(*place)) is not None]
    return min(known) if known else None


def _left_in(group: Path, limit: str, used: str) -> int | None:
    try:
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        given_back = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
        return int((group / limit).read_text()) - int((group / used).read_text()) + given_back
    except (OSError, ValueError):  # "max" is no number and no limit
        return None


def _of_limit() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return None
    return limit - pages * resource.getpagesize()
