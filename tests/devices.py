"""A device that is not the CPU, where there is none: `meta` computes nothing and refuses to be read.

It is lenient where a GPU is not: some operations take tensors of two devices there. `strictly_on` is strict.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adadiffsr_core.models.processor import Processor

META = Processor(torch.device("meta"))
# Each hands numbers of the CPU's to the device, and a GPU is waited for until it has them.
_CONSTANTS = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}


class WaitError(AssertionError):
    """A GPU would have refused this, or kept the CPU waiting."""


class _NoConstants(TorchFunctionMode):
    """Fails where a tensor of the device is made of Python's numbers, which `OneDevice` does not see."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch."""
        result = func(*args, **(kwargs or {}))
        # What the CPU makes for itself is seen once it crosses.
        if func in _CONSTANTS and (result.device == self.device or result.ndim == 0):
            raise WaitError(f"{func.__name__} made a constant anew; take it from constants.constant")
        return result


class OneDevice(TorchDispatchMode):
    """Fails where tensors of two devices meet, where one is read, made elsewhere, or crosses between devices.

    What is on the CPU from the start may be worked on there until it crosses.

    Attributes:
        device: where all is to be.
        may_cross: whether tensors may come to the device just now.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.may_cross = device, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch."""
        if func is torch.ops.aten._local_scalar_dense.default:
            raise WaitError("a value was read by item(), float(), int() or bool()")
        given = _devices((args, kwargs))
        if len(given) > 1:
            raise WaitError(f"{func} was given tensors of {len(given)} devices")
        result = func(*args, **(kwargs or {}))
        made = _devices(result)
        if not given and made - {self.device} and func is not torch.ops.aten.lift_fresh.default:
            raise WaitError(f"{func} made a tensor that is not on {self.device}")
        if given and made - given and not self.may_cross:
            raise WaitError(f"{func} took a tensor to another device")
        return result


def _devices(values: Any) -> set[torch.device]:
    """Of all tensors but single numbers of the CPU's, which go with an operation as Python's do."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return {tensor.device for tensor in tensors if tensor.ndim or tensor.device.type != "cpu"}


@contextmanager
def strictly(device: torch.device, monkeypatch: Any, owner: Any, door: str) -> Iterator[None]:
    """Fail on whatever a GPU in the device's place would refuse or wait for; through the door alone tensors may come.

    Args:
        device: where all is to be.
        monkeypatch: of pytest.
        owner, door: the function that takes tensors to the device, and where it is looked up.
    """
    mode, inner = OneDevice(device), getattr(owner, door)

    def openly(*args: Any) -> Any:
        mode.may_cross = True
        try:
            return inner(*args)
        finally:
            mode.may_cross = False

    with monkeypatch.context() as patch, _NoConstants(device), mode:
        patch.setattr(owner, door, openly)
        yield


def strictly_on(processor: Processor, monkeypatch: Any) -> Any:
    """The same for what a processor does; `Processor.place` is the door."""
    return strictly(processor.device, monkeypatch, Processor, "place")
