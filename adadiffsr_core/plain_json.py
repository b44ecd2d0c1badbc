"""JSON out of files: finite numbers of ordinary length, no key twice, not too deep and not too much of it."""

import json
import math
from typing import Any

from .text import quoted

_DEPTH, _CONTAINERS, _VALUES, _DIGITS = 32, 200_000, 1_000_000, 25


def parse_json(text: str | bytes) -> Any:
    """Read JSON strictly.

    What is refused besides is what Python reads and nothing of ours holds: NaN and infinity, numbers that become
    infinite, whole numbers of hundreds of digits, a key twice in one object, and nesting without end.

    Raises:
        ValueError: in a few words.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        if text.count("{") + text.count("[") > _CONTAINERS or text.count(",") > _VALUES:
            raise ValueError("it holds far more values than any file of this project")
        values = json.loads(
            text, parse_constant=_refuse, parse_float=_to_float, parse_int=_to_int, object_pairs_hook=_to_dict
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8") from None
    _check_depth(values)
    return values


def _refuse(text: str) -> Any:
    raise ValueError(f"it holds {text}")


def _to_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it holds the number {quoted(text, 40)}")
    return value


def _to_int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"it holds a whole number of {len(text)} digits")
    return int(text)


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = _first_twice([key for key, _ in pairs])
        raise ValueError(f"it holds {quoted(twice, 40)} twice")
    return values


def _first_twice(keys: list[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(_DEPTH):
        level = [item for value in level for item in _items(value) if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def without_nan(value: Any) -> Any:
    """The same plain values, with None for numbers that are not finite, of which JSON has none."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
