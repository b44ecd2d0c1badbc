"""How long a device works."""

import time
from typing import cast

import torch


class Stopwatch:
    """Runs from when it is made.

    On CUDA it tells what passes between two events of the device's stream, waits for the CPU included; elsewhere this
    process's processor time, which other processes do not disturb.

    Args:
        device: that works.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._began = self._mark()

    def read(self) -> float:
        """Seconds up to now; waits for CUDA to come that far."""
        ended = self._mark()
        if isinstance(ended, float):
            return ended - cast(float, self._began)
        ended.synchronize()
        return float(cast(torch.cuda.Event, self._began).elapsed_time(ended)) / 1000

    def _mark(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event
