"""Helpers for schemas that both old and new hosts read."""

import inspect
from collections.abc import Callable
from typing import Any


def advanced(kind: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """An input that the host folds away until asked for, where it can."""
    if "advanced" in inspect.signature(kind).parameters:
        options["advanced"] = True
    return kind(*args, **options)
