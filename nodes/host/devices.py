"""Several devices: the host's copies of a model, each of which evaluates a share of a batch's tiles.

Source: decision D75.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.samplers
import torch
from torch import Tensor

_CLONES, _POOL = "multigpu_clones", "multigpu_thread_pool"
Call = Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Place:
    """A device that evaluates tiles.

    Attributes:
        device: where.
        model: the host's BaseModel there.
        options: of the run, as they are there: of one device, so that the host does not divide the work once more.
    """

    device: torch.device
    model: Any
    options: dict[str, Any]


def list_devices(options: dict[str, Any], own: torch.device) -> list[torch.device]:
    """Devices that a run has, its own first."""
    return list(options.get(_CLONES) or [own])


def find_places(model: Any, options: dict[str, Any], own: torch.device) -> list[Place]:
    """Where tiles can be evaluated.

    Args:
        model: the run's BaseModel.
        options: of the run; the host puts its copies of the model there.
        own: the run's device.
    """
    clones = options.get(_CLONES)
    if not clones:
        return [Place(own, model, options)]
    return [Place(device, patcher.model, _localise(options, device)) for device, patcher in clones.items()]


def evaluate_all(calls: Sequence[tuple[Place, Call]], options: dict[str, Any]) -> list[list[Tensor]]:
    """Evaluate on all devices at once, each on its own of the host's threads, and wait until all have launched theirs.

    Args:
        calls: what each place has to do.
        options: of the run, with the host's threads; without them one call follows another.

    Raises:
        BaseException: what the first call that failed raised, when all have ended: the host hands results out in their
            order, and one that is not fetched would be taken for one of the next batch.
    """
    pool = options.get(_POOL)
    if pool is None or len(calls) == 1:
        return [call() for _, call in calls]
    for place, call in calls:
        pool.submit(place.device, _as_here(call))
    ended = [pool.get_result(place.device) for place, _ in calls]
    for _, error in ended:
        if error is not None:
            raise error
    return [found for found, _ in ended]


def gather(parts: Sequence[Tensor], device: torch.device) -> Tensor:
    """What the devices found for their shares of a batch, in its order, on one of them."""
    return torch.cat([part.to(device) for part in parts])


def _as_here(call: Call) -> Call:
    """The same call in another thread, of which torch remembers apart whether gradients are wanted."""
    is_inference, has_gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def run() -> list[Tensor]:
        with torch.inference_mode(is_inference), torch.set_grad_enabled(has_gradients):
            return call()

    return run


def _localise(options: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Options of one device alone, what the host's patches hold moved there by its own rule."""
    local = comfy.model_patcher.create_model_options_clone(options)
    local.pop(_CLONES), local.pop(_POOL, None)
    told = local.setdefault("transformer_options", {})
    if "sample_sigmas" in told:
        told["sample_sigmas"] = told["sample_sigmas"].to(device)
    told["multigpu_thread_device"] = device
    comfy.samplers.cast_transformer_options(told, device=device)
    return local
