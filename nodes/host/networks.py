"""Our small networks in the host's care: loaded and unloaded by its rules, beside the models of other nodes."""

from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.model_patcher
from torch import nn

from ...adadiffsr_core.photo.scales import Scales

_KEY = "adadiffsr"


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


@dataclass(frozen=True)
class Companions:
    """What belongs to a MODEL of ours and travels with it, through whatever patches it.

    Attributes:
        mmle, pfj: its regressor and its feature injection, where its file has them.
        scales: how many times larger it was trained to make pictures; an ordinary checkpoint takes any.
    """

    mmle: Network | None = None
    pfj: Network | None = None
    scales: Scales = field(default_factory=lambda: Scales(1e-3, 1e3))

    def join(self, model: Any) -> None:
        """Let a MODEL, and whatever is cloned from it, have them."""
        model.set_attachments(_KEY, self)


def companions(model: Any) -> Companions:
    """Those of a MODEL; none of one that is not ours."""
    found = getattr(model, "attachments", {}).get(_KEY)
    return found if isinstance(found, Companions) else Companions()


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
