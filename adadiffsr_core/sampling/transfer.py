"""Numbers on their way between the CPU and the device, which neither waits for: only `Readback.wait` does."""

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """Take numbers to the device, as a rule from the CPU.

    To CUDA through pinned memory: only then the copy goes on by itself, and torch keeps the memory until it is over.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


class Readback:
    """A few numbers on their way from the device to the CPU, under way as soon as they are computed.

    Args:
        values: on the device.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._event: torch.cuda.Event | None = None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def wait(self) -> Tensor:
        """The numbers on the CPU, once they are there."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.cpu()
