"""Weights files: safetensors with a format, a kind and a config in the metadata. Never a pickle.

Source: docs/design.md, "Files".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import whole_file
from ..plain_json import parse_json, without_nan
from ..text import quoted, shown
from .tensor_file import FLOATS, WHOLE, WORDS, TensorFile

FORMAT = "adadiffsr/1"
KINDS = ("autoencoder", "ldm", "mmle", "pfj", "bundle")


@dataclass(frozen=True)
class Checkpoint:
    """A weights file, opened; weights are read when they are asked for.

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
            held = shown(", ".join(self.config), 80)
            raise CheckpointError(f"{self.path} is a {self.kind} file without {name}; it has {held}")
        section: Mapping[str, Any] = self.config[name]
        return section

    def check_weights(self, module: nn.Module, prefix: str) -> None:
        """Compare what the file says of its tensors below `prefix` with `module`, without reading any.

        Args:
            module: may be on the `meta` device.
            prefix: of its keys in the file.

        Raises:
            CheckpointError: a key is missing or unknown, or a shape or type differs.
        """
        found = {key.removeprefix(prefix) for key in self.tensors if key.startswith(prefix)}
        expected = module.state_dict()
        if missing := sorted(expected.keys() - found):
            raise CheckpointError(f"{self.path} lacks {len(missing)} weights of {prefix}*, first {missing[0]}")
        if unknown := sorted(found - expected.keys()):
            first = shown(unknown[0], 80)
            raise CheckpointError(f"{self.path} has {len(unknown)} unknown weights in {prefix}*, first {first}")
        for key, value in expected.items():
            shape, dtype = self._describe(prefix + key)
            if shape != tuple(value.shape):
                raise CheckpointError(
                    f"{self.path}: {prefix}{key} has shape {quoted(shape, 80)}, its config says {tuple(value.shape)}"
                )
            if dtype not in (FLOATS if value.is_floating_point() else WHOLE):
                raise CheckpointError(f"{self.path}: {prefix}{key} is stored as {shown(dtype, 40)}, not as weights are")

    def _describe(self, key: str) -> tuple[tuple[int, ...], str]:
        """Shape and type of a tensor, in safetensors' words."""
        if isinstance(self.tensors, TensorFile):
            return self.tensors.shape(key), self.tensors.dtype(key)
        tensor = self.tensors[key]
        return tuple(tensor.shape), WORDS.get(tensor.dtype, str(tensor.dtype))

    def read_weights(self, module: nn.Module, prefix: str) -> dict[str, Tensor]:
        """Read the tensors below `prefix`, in the types of `module`, by the keys of `module`.

        Args:
            module: that they are for, which may be on the `meta` device.
            prefix: of its keys in the file.

        Raises:
            CheckpointError: they are not those of `module`, or a value is not finite in its type.
        """
        self.check_weights(module, prefix)
        read = {}
        for key, value in module.state_dict().items():
            read[key] = self.tensors[prefix + key].to(value.dtype)
            if value.is_floating_point() and not bool(torch.isfinite(read[key]).all()):
                raise CheckpointError(f"{self.path}: {prefix}{key} holds NaN or infinity; the file is damaged")
        return read

    def load_into(self, module: nn.Module, prefix: str) -> None:
        """Copy the tensors below `prefix` into `module`, all or none; one on the `meta` device takes them as they are.

        Raises:
            CheckpointError: they are not those of `module`, or a value is not finite.
        """
        is_empty = any(value.is_meta for value in module.state_dict().values())
        module.load_state_dict(self.read_weights(module, prefix), assign=is_empty)


def name_weights(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """A module's tensors by the keys that they have in a file."""
    return {prefix + key: value for key, value in module.state_dict().items()}


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
        raise CheckpointError(f"kind {quoted(checkpoint.kind, 80)} is unknown; use one of {', '.join(KINDS)}")
    tensors = {}
    for key, value in checkpoint.tensors.items():
        tensors[key] = value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        if value.is_floating_point() and not bool(torch.isfinite(tensors[key]).all()):
            raise CheckpointError(f"{key} is not finite as {dtype}; nothing was written to {path}")
    metadata = {
        "format": FORMAT,
        "kind": checkpoint.kind,
        "config": json.dumps(checkpoint.config, allow_nan=False),
        "facts": json.dumps(without_nan(checkpoint.facts)),
    }
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata)


def load_checkpoint(path: Path, *kinds: str) -> Checkpoint:
    """Read a weights file of one of `kinds` (any kind if none is named).

    Raises:
        CheckpointError: the file is missing, damaged, not ours, or of another kind.
    """
    tensors = TensorFile(path)
    metadata = tensors.metadata
    if metadata.get("format") != FORMAT:
        stored = quoted(metadata.get("format"), 40)
        raise CheckpointError(f"{path} is not a weights file of this project (format {stored})")
    kind = metadata.get("kind", "")
    if kind not in (kinds or KINDS):
        raise CheckpointError(f"{path} holds {shown(kind, 40) or 'nothing known'}, not {' or '.join(kinds or KINDS)}")
    config, facts = (_parse_section(path, name, metadata.get(name, default)) for name, default in _SECTIONS.items())
    return Checkpoint(kind=kind, config=config, tensors=tensors, facts=facts, path=path)


# What stands for them where a file has none; without a config there is nothing to build.
_SECTIONS = {"config": "", "facts": "{}"}


def _parse_section(path: Path, name: str, text: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} has no readable {name}: {shown(str(error), 80)}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} has no readable {name}: it is {quoted(values, 40)}")
    return values
