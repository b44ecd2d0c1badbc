"""Training state on disk: everything a run needs to go on to the same bits, and no pickle.

Neither writing nor reading holds a second copy of it, since for a large network there is no room for one.
"""

import json
from collections.abc import Iterator, Mapping
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
    for key in tensors:
        if key.startswith(f"{prefix}."):
            index, name = key.removeprefix(f"{prefix}.").split(".", 1)
            state.setdefault(int(index), {})[name] = tensors[key]
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    # A fused update walks through memory, so moments must lie as their parameters do, channels last for example.
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:
                moments[name] = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def pack_module(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Name a module's tensors `prefix.<key>`."""
    return {f"{prefix}.{key}": value for key, value in module.state_dict().items()}


def unpack_module(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Undo `pack_module`; strict about keys and shapes."""
    found = {key.removeprefix(f"{prefix}."): tensors[key] for key in tensors if key.startswith(f"{prefix}.")}
    module.load_state_dict(found)


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one file, whole or not at all."""
    with whole_file(path) as partial:
        save_file(
            {key: value.detach().contiguous() for key, value in tensors.items()},
            partial,
            {"format": _FORMAT, "facts": json.dumps(facts)},
        )


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for.

    Args:
        path: of the file; what is read stays that of the file as it was opened, even if it is replaced.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Read, not mapped: pages of a mapped file would count as this process's memory.
            file: Any = safe_open(path, "pt", backend="pread")
            self.metadata: Mapping[str, str] = file.metadata() or {}
            self._file, self._keys = file, dict.fromkeys(file.keys())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read as a safetensors file: {error}") from error

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        tensor: Tensor = self._file.get_tensor(key)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def shape(self, key: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        return tuple(self._file.get_slice(key).get_shape())


def load_state(path: Path) -> tuple[TensorFile, dict[str, Any]]:
    """Read what `save_state` wrote.

    Raises:
        CheckpointError: the file is damaged or is not a training state.
    """
    tensors = TensorFile(path)
    if tensors.metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path} is not a training state of this project; remove it or choose another folder")
    return tensors, json.loads(tensors.metadata["facts"])
