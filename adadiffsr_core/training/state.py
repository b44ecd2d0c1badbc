"""Training state on disk: everything a run needs to go on to the same bits, and no pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import whole_file

_FORMAT = "adadiffsr-training/1"


def pack_optimiser(prefix: str, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an Adam-type optimiser's moments to `prefix.<parameter index>.<name>` tensors."""
    return {
        f"{prefix}.{index}.{name}": value
        for index, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
    }


def unpack_optimiser(prefix: str, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `pack_optimiser`; hyper-parameters stay those of `optimiser`, which come from the config."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(f"{prefix}."):
            index, name = key.removeprefix(f"{prefix}.").split(".", 1)
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def pack_module(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Name a module's tensors `prefix.<key>`."""
    return {f"{prefix}.{key}": value for key, value in module.state_dict().items()}


def unpack_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Undo `pack_module`; strict about keys and shapes."""
    found = {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
    module.load_state_dict(found)


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one file, whole or not at all."""
    with whole_file(path) as partial:
        save_file(
            {key: value.detach().contiguous().clone() for key, value in tensors.items()},
            partial,
            {"format": _FORMAT, "facts": json.dumps(facts)},
        )


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote.

    Raises:
        CheckpointError: the file is damaged or is not a training state.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as a training state: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a training state of this project; remove it or choose another folder")
    return tensors, json.loads(metadata["facts"])
