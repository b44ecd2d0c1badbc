"""A network's weights in a file that is mapped into memory, for what is needed only now and then."""

import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ...disk import reserve

_ALIGNMENT = 64


def page_out(module: nn.Module, folder: Path) -> Callable[[], None]:
    """Move a module's parameters into a file; they stay ordinary tensors of the processor's, one update away.

    Args:
        module: changed in place.
        folder: on a disk with room for the file, which has no name and goes when the process ends.

    Returns:
        What takes those parts that were touched out of memory again, where the system can.

    Raises:
        DiskError: the disk has no room for the file.
    """
    places, size = [], 0
    for parameter in module.parameters():
        places.append(size)
        size += -(-parameter.nbytes // _ALIGNMENT) * _ALIGNMENT
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        reserve(file, max(1, size), folder)
        pages = mmap.mmap(file.fileno(), max(1, size))

    def release() -> None:
        if hasattr(mmap, "MADV_DONTNEED"):  # on a file's pages it drops nothing but this process's hold on them
            pages.madvise(mmap.MADV_DONTNEED)

    for parameter, place in zip(module.parameters(), places, strict=True):
        paged = torch.frombuffer(pages, dtype=parameter.dtype, count=parameter.numel(), offset=place)
        parameter.data = paged.view(parameter.shape).copy_(parameter.data)
        release()
    return release
