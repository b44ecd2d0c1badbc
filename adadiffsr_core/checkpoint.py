"""Weights files: safetensors with a format, a kind and a config in the metadata. Never a pickle.

Source: DESIGN section 7.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CheckpointError
from .files import whole_file

FORMAT = "adadiffsr/1"
KINDS = ("autoencoder", "ldm", "mmle", "pfj", "bundle")


@dataclass(frozen=True)
class Checkpoint:
    """A weights file, read and checked.

    Attributes:
        kind: one of `KINDS`.
        config: the networks' configs by name, such as `{"unet": {...}, "autoencoder": {...}}`.
        tensors: weights by their key names (LDM's for `ldm` and `bundle`).
        facts: how they came to be: steps, seed, command. For people, never for code.
        path: where the file is, for messages.
    """

    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)
    path: Path = Path("(memory)")

    def section(self, name: str) -> Mapping[str, Any]:
        """The config of one network.

        Raises:
            CheckpointError: the file has no such network.
        """
        if name not in self.config:
            raise CheckpointError(f"{self.path} is a {self.kind} file without {name}; it has {', '.join(self.config)}")
        section: Mapping[str, Any] = self.config[name]
        return section

    def load_into(self, module: nn.Module, prefix: str) -> None:
        """Copy the tensors below `prefix` into `module`.

        Raises:
            CheckpointError: a key is missing or unknown, a shape differs, or a value is not finite.
        """
        found = {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}
        expected = module.state_dict()
        if missing := sorted(expected.keys() - found.keys()):
            raise CheckpointError(f"{self.path} lacks {len(missing)} weights of {prefix}*, first {missing[0]}")
        if unknown := sorted(found.keys() - expected.keys()):
            raise CheckpointError(f"{self.path} has {len(unknown)} unknown weights in {prefix}*, first {unknown[0]}")
        for key, value in found.items():
            if value.shape != expected[key].shape:
                raise CheckpointError(
                    f"{self.path}: {prefix}{key} has shape {tuple(value.shape)}, its config says "
                    f"{tuple(expected[key].shape)}"
                )
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise CheckpointError(f"{self.path}: {prefix}{key} holds NaN or infinity; the file is damaged")
        module.load_state_dict(found)


def save_checkpoint(checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a weights file, whole or not at all.

    Args:
        checkpoint: what to write; its own `path` is not looked at.
        path: where to.
        dtype: of the stored floating-point weights.

    Raises:
        CheckpointError: the kind is unknown, or a weight is not finite in `dtype`.
    """
    if checkpoint.kind not in KINDS:
        raise CheckpointError(f"kind {checkpoint.kind!r} is unknown; use one of {', '.join(KINDS)}")
    tensors = {}
    for key, value in checkpoint.tensors.items():
        tensors[key] = value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        if value.is_floating_point() and not bool(torch.isfinite(tensors[key]).all()):
            raise CheckpointError(f"{key} is not finite as {dtype}; nothing was written to {path}")
    metadata = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "config": json.dumps(checkpoint.config),
        "facts": json.dumps(checkpoint.facts),
    }
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata)


def load_checkpoint(path: Path, *kinds: str) -> Checkpoint:
    """Read a weights file of one of `kinds` (any kind if none is named).

    Raises:
        CheckpointError: the file is missing, damaged, not ours, or of another kind.
    """
    if not path.is_file():
        raise CheckpointError(f"weights file {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a weights file of this project (format {metadata.get('format')!r})")
    kind = metadata.get("kind", "")
    if kind not in (kinds or KINDS):
        raise CheckpointError(f"{path} holds {kind or 'nothing known'}, not {' or '.join(kinds or KINDS)}")
    try:
        config, facts = json.loads(metadata["config"]), json.loads(metadata.get("facts", "{}"))
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} has no readable config") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} has no readable config")
    return Checkpoint(kind=kind, config=config, tensors=tensors, facts=facts, path=path)
