"""Measure pictures, and keep what has been measured, so that a killed evaluation goes on."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError
from ..files import read_small_file, whole_file
from ..metrics.base import Metric
from ..plain_json import parse_json, without_nan

_FORMAT = "adadiffsr-results/1"
_LONGEST = 64 * 10**6  # bytes of a file of results


def measure(image: Tensor, reference: Tensor | None, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Every metric of one picture.

    Args:
        image: [1,3,H,W] in [0,1].
        reference: the truth, of the same shape; None if no metric needs one.
        metrics: by name.

    Returns:
        A number per name; NaN where a metric is undefined.

    Raises:
        ShapeError: the pictures cannot be measured, or there is more than one.
        ConfigError: a metric needs the truth and there is none.
    """
    return {name: float(metric(image, reference)) for name, metric in metrics.items()}


class ResultStore:
    """A JSON file of key -> metric -> number; after every `add` the file is whole and up to date.

    Attributes:
        path: the file; it appears with the first `add`.

    Raises:
        CheckpointError: the file exists and is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[str, dict[str, float]] = _read(path) if path.exists() else {}

    def add(self, key: str, values: Mapping[str, float]) -> None:
        """Merge numbers into a key and write the file."""
        self._values[key] = {**self._values.get(key, {}), **values}
        plain = {"format": _FORMAT, "values": without_nan(self._values)}
        with whole_file(self.path) as partial:
            partial.write_text(json.dumps(plain, indent=1, allow_nan=False))

    def items(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Keys in the order they were added, with a copy of their numbers."""
        return ((key, dict(values)) for key, values in self._values.items())


def upscale_bicubic(image: Tensor, scale: int) -> Tensor:
    """Images [N,3,h,w] in [0,1] -> [N,3,scale*h,scale*w] on 8-bit levels: the baseline of every table.

    Source: Keys 1981 with a = -0.5, as Pillow and MATLAB; torch uses that kernel only with `antialias`, which changes
    nothing else when the picture grows.
    """
    return to_levels(F.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True))


def to_levels(image: Tensor) -> Tensor:
    """A picture in [0,1] on 8-bit levels, as a saved file has it; anything beyond is clipped."""
    return (image.clamp(0, 1) * 255).round() / 255


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        content = parse_json(read_small_file(path, _LONGEST))
        if content["format"] != _FORMAT:
            raise ValueError(content["format"])
        values = content["values"]
        return {key: {name: _to_number(number) for name, number in row.items()} for key, row in values.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no results file, or is damaged; move it away to start again") from error


def _to_number(value: Any) -> float:
    """A stored number; null is one that was undefined."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise TypeError("no number")
    return math.nan if value is None else float(value)
