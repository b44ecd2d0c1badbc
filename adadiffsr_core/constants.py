"""Small tables of numbers on whatever device computes with them."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of the device and dtype of `like`; made once, and not to be changed in place.

    A GPU is otherwise handed the same few numbers at every call, and each time the CPU waits for all of its work.
    """
    return _make(tuple(values), like.dtype, like.device)


@cache
def _make(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # Whoever asks first may be in inference mode, whose tensors no later training could use.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
