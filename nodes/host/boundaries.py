"""Noise levels at which a run's conditioning changes, since the host asks the first tile of a batch only.

A batch of tiles must lie on one side of each: `adadiffsr_core.sampling.turn` groups tiles accordingly.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from types import CellType
from typing import Any

from .guards import leaves

_TINY = 1e-6
_EMPTY_CELL = CellType()


def find_boundaries(guider: Any, model_options: Mapping[str, Any]) -> list[float]:
    """Every sigma at which something is switched on or off.

    Conditionings with a start or an end, ControlNets with one, key frames of weight hooks, and functions that other
    nodes put on the model which hold a `sigma_...` of their own, such as the host's CFG Override.

    Args:
        guider: in the midst of sampling, its conditionings processed.
        model_options: of this run.

    Returns:
        Sigmas, unsorted. A sigma equal to one of them is on its cleaner side.
    """
    found: list[float] = []
    for cond in all_conditionings(guider):
        found += _switches(cond.get("timestep_start"), cond.get("timestep_end"))
        for control in control_chain(cond.get("control")):
            found += _switches(*(control.timestep_range or (None, None)))
        for hook in hooks_of(cond):
            found += [float(frame.start_t) for frame in hook.hook_keyframe.keyframes]
    for function in filter(callable, leaves(model_options)):
        for sigma in _sigmas_held_by(function):
            found += _switches(sigma, sigma)
    return [sigma for sigma in found if 0 < sigma < math.inf]


def all_conditionings(guider: Any) -> Iterator[dict[str, Any]]:
    """Every processed conditioning that a guider holds, also those that it keeps to itself."""
    lists = [*getattr(guider, "conds", {}).values(), *vars(guider).values()]
    for conds in lists:
        if isinstance(conds, list):
            yield from (cond for cond in conds if isinstance(cond, dict) and "model_conds" in cond)


def control_chain(control: Any) -> Iterator[Any]:
    """A ControlNet and those chained before it."""
    while control is not None:
        yield control
        control = control.previous_controlnet


def hooks_of(cond: Mapping[str, Any]) -> list[Any]:
    """A conditioning's hooks that have key frames."""
    hooks = getattr(cond.get("hooks"), "hooks", [])
    return [hook for hook in hooks if getattr(getattr(hook, "hook_keyframe", None), "keyframes", None)]


def _switches(start: Any, end: Any) -> list[float]:
    """The host counts both ends as inside, so an end's own sigma is on the noisier side."""
    edges = [] if start is None else [float(start)]
    return edges if end is None else [*edges, float(end) * (1 - _TINY)]


def _sigmas_held_by(function: Callable[..., Any]) -> list[float]:
    """Numbers named `sigma...` in a function's closure, or on the object that it is or belongs to."""
    held: dict[str, Any] = {}
    for owner in (function, getattr(function, "__self__", None)):
        held |= getattr(owner, "__dict__", {})
    if inspect.isfunction(function):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        held |= {name: cell.cell_contents for name, cell in cells if cell != _EMPTY_CELL}
    return [float(value) for name, value in held.items() if name.startswith("sigma") and isinstance(value, int | float)]
