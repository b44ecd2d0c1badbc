"""Safetensors files opened with suspicion: the header is read and checked before anything else is.

A header says of every tensor its type and shape, so a file can be compared with what is wanted of it at the cost of
its first few kilobytes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..plain_json import parse_json
from ..text import quoted, shown

# Headers of ours have some 50 KB; a training state's holds the figures of the whole run besides.
_LONGEST_HEADER = 32 * 2**20
# What a number in a header may be at most; no file holds so much.
_LARGEST = 2**48
_MOST_AXES = 8

# What weights may be stored as, in safetensors' words; whatever else a file holds is none of ours.
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WHOLE = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
WORDS = {dtype: word for word, dtype in (FLOATS | WHOLE).items()}


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file, each read when it is asked for.

    Args:
        path: of the file; what is read stays that of the file as it was opened, even if it is replaced.

    Attributes:
        path: of the file.
        metadata: the texts that the file says of itself.

    Raises:
        CheckpointError: the file is missing, no ordinary file, damaged, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not path.is_file():  # nor a pipe or a device, which might never end
                raise CheckpointError(f"weights file {path} does not exist, or is no ordinary file")
            with path.open("rb") as file:
                header = _read_header(file)
            self.metadata = _take_metadata(header)
            self._entries = {key: _parse_entry(key, entry) for key, entry in header.items()}
            self._file = _open(path)
        except (OSError, ValueError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise CheckpointError(
                f"{path} cannot be read as a safetensors file; it is damaged, or is not a safetensors file: "
                f"{shown(reason, 80)}"
            ) from error

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._entries:
            raise KeyError(key)
        try:
            tensor: Tensor = self._file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.path}: {shown(key, 80)} cannot be read; the file is damaged") from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def shape(self, key: str) -> tuple[int, ...]:
        """Of one tensor, without reading it."""
        return self._entries[key][1]

    def dtype(self, key: str) -> str:
        """Of one tensor, in the file's words, such as `F16`; without reading it."""
        return self._entries[key][0]


def _open(path: Path) -> Any:
    try:
        # Read, not mapped: pages of a mapped file would count as this process's memory.
        return safe_open(path, "pt", backend="pread")
    except TypeError:  # safetensors before 0.8
        return safe_open(path, "pt")


def _read_header(file: BinaryIO) -> dict[str, Any]:
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= size - 8:
        raise ValueError(f"a header of {length} bytes does not fit in a file of {size}")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header of {length} bytes is longer than any of this project")
    header = parse_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header


def _take_metadata(header: dict[str, Any]) -> Mapping[str, str]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    return metadata


def _parse_entry(key: str, entry: Any) -> tuple[str, tuple[int, ...]]:
    """Type and shape; where the bytes are is the library's to check."""
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(dtype, str) or not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise ValueError(f"{quoted(key, 60)} has no type and shape")
    if not all(type(side) is int and 0 <= side <= _LARGEST for side in shape):
        raise ValueError(f"{quoted(key, 60)} has a shape that is none")
    return dtype, tuple(shape)
