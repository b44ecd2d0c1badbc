"""Our small networks in the host's care: loaded and unloaded by its rules, beside the models of other nodes."""

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
from torch import nn


@dataclass(frozen=True)
class Network:
    """What travels along an MMLE or PFJ link.

    Attributes:
        patcher: the host's handle.
    """

    patcher: Any

    def __repr__(self) -> str:
        """In short: the host shows it where a link is previewed as text."""
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        return f"{type(self.module).__name__}({parameters:,} parameters)"

    @property
    def module(self) -> Any:
        """The network itself, on the device once it is loaded."""
        return self.patcher.model


def entrust(module: nn.Module) -> Network:
    """Hand a network over to the host."""
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    return Network(comfy.model_patcher.ModelPatcher(module.eval().requires_grad_(False), load_device, offload_device))


def load_beside(guider: Any, networks: list[Network]) -> None:
    """Load networks while a guider's own models stay where they are."""
    if networks:
        in_use = [guider.model_patcher, *guider.loaded_models]
        comfy.model_management.load_models_gpu([*in_use, *(network.patcher for network in networks)])
