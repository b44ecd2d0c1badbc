"""What a training state says of its run, checked before a run goes on from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError
from ...text import quoted

# Rows that a state keeps: more would make its header longer than readers take.
_MOST_ROWS = 100_000
_MOST_STEPS = 2**53
Row = dict[str, float]


@dataclass(frozen=True)
class RunFacts:
    """How far a run is.

    Attributes:
        task: name of what is trained.
        step, seconds: done so far, earlier runs included.
        history: rows of figures, each with its step.
        tensors: how many the state holds; None in older ones.
    """

    task: str
    step: int
    seconds: float
    history: list[Row]
    tensors: int | None


def parse_facts(path: Path, facts: Mapping[str, Any]) -> RunFacts:
    """The facts of a training state.

    Raises:
        CheckpointError: one is missing, of the wrong kind or out of its range.
    """
    step, history = facts.get("step"), facts.get("history")
    checks = {
        "task": isinstance(facts.get("task"), str),
        "step": _is_count(step),
        "seconds": _is_number(facts.get("seconds", 0.0)) and facts.get("seconds", 0.0) >= 0,
        "config": isinstance(facts.get("config", {}), dict),
        "tensors": facts.get("tensors") is None or _is_count(facts["tensors"]),
        "history": isinstance(history, list) and all(_is_row(row, step) for row in history),
    }
    if odd := [name for name, fits in checks.items() if not fits]:
        raise CheckpointError(
            f"{path} is damaged; its {odd[0]} cannot be {quoted(facts.get(odd[0]), 60)}; remove it or choose another "
            "folder"
        )
    return RunFacts(facts["task"], facts["step"], facts.get("seconds", 0.0), facts["history"], facts.get("tensors"))


def keep_rows(history: Sequence[Row]) -> list[Row]:
    """The rows that a state keeps: the latest, without figures that are not finite, of which JSON has none."""
    rows = history[-_MOST_ROWS:]
    return [{name: value for name, value in row.items() if math.isfinite(value)} for row in rows]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_STEPS


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)


def _is_row(row: Any, step: Any) -> bool:
    """Whether it is figures of a step up to this one, of which it is known elsewhere whether it is any."""
    fits = isinstance(row, dict) and all(_is_number(value) for value in row.values())
    return fits and _is_count(row.get("step")) and (not _is_count(step) or row["step"] <= step)
