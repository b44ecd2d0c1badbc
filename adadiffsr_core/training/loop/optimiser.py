"""AdamW that clips, and leaves out a step whose gradient is not finite, without the host waiting to learn of it."""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from .config import LoopConfig

# What torch has a fused update for; elsewhere (`meta`, on which tests walk) nothing is updated anyway.
_FUSED = ("cpu", "cuda", "mps", "xpu")


class Optimiser:
    """One network's AdamW.

    Attributes:
        adam: torch's own, whose state is what a run keeps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: LoopConfig) -> None:
        # Frozen ones too: moments are kept by place, and freezing must not shift them.
        self.parameters = list(parameters)
        self.config = config
        device = self.parameters[0].device
        self.adam = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=device.type in _FUSED,  # which holds no copy of everything, as foreach would
        )
        self._skipped = torch.zeros((), device=device)

    def step(self, learning_rate: float) -> None:
        """Update the parameters that have gradients."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        found = (~torch.isfinite(norm)).float()
        self._skipped += found
        # The words by which torch's own gradient scaler tells a fused optimiser; the decision stays on the device.
        adam = cast(Any, self.adam)
        adam.grad_scale, adam.found_inf = None, found
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.step()

    def take_skipped(self) -> int:
        """How many steps were left out since this was last asked; waits for the device."""
        skipped = int(self._skipped)
        self._skipped.zero_()
        return skipped

    def drop_gradients(self) -> None:
        """Give their memory back."""
        self.adam.zero_grad(set_to_none=True)
