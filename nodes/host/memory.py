"""Out of memory, whatever the host's device calls it, as the one error that the core knows how to survive."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import torch


@contextmanager
def name_out_of_memory() -> Iterator[None]:
    """Raise `torch.OutOfMemoryError` for every kind of exhaustion, with the host's cache given back first.

    Raises:
        torch.OutOfMemoryError: memory ran out inside.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        comfy.model_management.soft_empty_cache()
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


def _is_out_of_memory(error: Exception) -> bool:
    is_oom = getattr(comfy.model_management, "is_oom", None)
    if isinstance(error, torch.OutOfMemoryError) or (is_oom is not None and is_oom(error)):
        return True
    # What torch's CPU allocator raises has no class of its own.
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
