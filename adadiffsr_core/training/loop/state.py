"""Training state on disk: everything a run needs to go on to the same bits, and no pickle.

Neither writing nor reading holds a second copy of it, since for a large network there is no room for one.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...errors import CheckpointError
from ...files import whole_file
from ...models.checkpoint import name_weights
from ...models.tensor_file import WORDS, TensorFile
from ...plain_json import parse_json, without_nan
from ...text import quoted, shown

_FORMAT = "adadiffsr-training/1"
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}  # AdamW's


def pack_optimiser(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an Adam-type optimiser's moments to `prefix.<parameter index>.<name>` tensors."""
    return {
        f"{prefix}.{index}.{name}": value
        for index, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }


def unpack_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: TensorFile) -> None:
    """Undo `pack_optimiser`; hyper-parameters stay those of `optimiser`, which come from the config.

    Raises:
        CheckpointError: moments are not those of the optimiser's parameters, or are not finite.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    places = {str(place): place for place in range(len(parameters))}
    state: dict[int, dict[str, Tensor]] = {}
    for key in tensors:
        if key.startswith(f"{prefix}."):
            index, _, name = key.removeprefix(f"{prefix}.").partition(".")
            # As it was written, since int() reads much else.
            place = places.get(index)
            if place is None or name not in _MOMENTS:
                raise CheckpointError(f"{tensors.path} has an unknown moment {shown(key, 80)}")
            like = parameters[place]
            shape, dtype = ((), torch.float32) if name == "step" else (tuple(like.shape), like.dtype)
            _check_shape(tensors, key, shape, dtype)
            state.setdefault(place, {})[name] = _read_finite(tensors, key)
    if partial := [place for place, moments in state.items() if moments.keys() != _MOMENTS]:
        raise CheckpointError(f"{tensors.path} lacks moments of {prefix}.{partial[0]}")
    if any(float(moments["step"]) < 0 or bool((moments["exp_avg_sq"] < 0).any()) for moments in state.values()):
        raise CheckpointError(f"{tensors.path} has moments of {prefix} below 0; the file is damaged")
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    # A fused update walks through memory, so moments must lie as their parameters do, channels last for example.
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def check_module(prefix: str, module: nn.Module, tensors: TensorFile) -> None:
    """Compare what a state says of a module's tensors, which are `prefix.<key>`,, without reading any.

    Raises:
        CheckpointError: a key is missing or unknown, or a shape or type differs.
    """
    expected = name_weights(module, f"{prefix}.")
    found = {key for key in tensors if key.startswith(f"{prefix}.")}
    if odd := sorted(expected.keys() ^ found):
        what = "lacks" if odd[0] in expected else "has the unknown"
        raise CheckpointError(f"{tensors.path} {what} {shown(odd[0], 80)}; it is damaged, or of another network")
    for key, value in expected.items():
        _check_shape(tensors, key, tuple(value.shape), value.dtype)


def unpack_module(prefix: str, module: nn.Module, tensors: TensorFile) -> None:
    """Fill a module with its tensors; strict about keys, shapes and values.

    Raises:
        CheckpointError: they are not those of `module`, or a value is not finite.
    """
    check_module(prefix, module, tensors)
    for key, value in module.state_dict().items():
        value.copy_(_read_finite(tensors, f"{prefix}.{key}"))


def check_names(tensors: TensorFile, prefixes: Iterable[str], count: int | None) -> None:
    """See that a state holds nothing but what is below `prefixes`, and as many tensors as it says.

    Raises:
        CheckpointError: it holds something else, or more or fewer.
    """
    starts = tuple(f"{prefix}." for prefix in prefixes)
    if unknown := sorted(key for key in tensors if not key.startswith(starts)):
        raise CheckpointError(f"{tensors.path} has the unknown {shown(unknown[0], 80)}; it is damaged")
    if count is not None and count != len(tensors):
        raise CheckpointError(f"{tensors.path} is damaged; it holds {len(tensors)} tensors, not the {count} it says")


def _check_shape(tensors: TensorFile, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    stored = tensors.shape(key), tensors.dtype(key)
    if stored != (shape, WORDS[dtype]):
        raise CheckpointError(
            f"{tensors.path}: {shown(key, 80)} is {shown(stored[1], 20)} of shape {quoted(stored[0], 60)}, where "
            f"{WORDS[dtype]} of {shape} is wanted; it is damaged, or of another network"
        )


def _read_finite(tensors: TensorFile, key: str) -> Tensor:
    value = tensors[key]
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise CheckpointError(f"{tensors.path}: {shown(key, 80)} holds NaN or infinity; the file is damaged")
    return value


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one file, whole or not at all."""
    with whole_file(path) as partial:
        save_file(
            {key: value.detach().contiguous() for key, value in tensors.items()},
            partial,
            {"format": _FORMAT, "facts": json.dumps(without_nan(facts))},
        )


def load_state(path: Path) -> tuple[TensorFile, dict[str, Any]]:
    """Read what `save_state` wrote.

    Raises:
        CheckpointError: the file is damaged or is not a training state.
    """
    tensors = TensorFile(path)
    if tensors.metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a training state of this project; remove it or choose another folder")
    try:
        facts = parse_json(tensors.metadata.get("facts", ""))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged; of its facts, {shown(str(error), 80)}") from error
    if not isinstance(facts, dict):
        raise CheckpointError(f"{path} is damaged; its facts are {quoted(facts, 80)}")
    return tensors, facts
