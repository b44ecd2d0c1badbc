"""Nodes as tables: a node's inputs and outputs are rows of name, kind and tooltip."""

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from comfy_api.v0_0_2 import io

from ..adadiffsr_core.errors import ConfigError
from ..adadiffsr_core.text import quoted

Row = tuple[str, Any, str]

TilesType = io.Custom("ADADIFFSR_TILES")
MmleType = io.Custom("ADADIFFSR_MMLE")
PfjType = io.Custom("ADADIFFSR_PFJ")

TILES: Row = ("tiles", TilesType, "Finished tiles, from the Region-Aware KSampler.")


class Of:
    """A kind of input and what it allows, such as `Of(io.Int, default=0, min=0)`.

    Args:
        kind: the host's.
        advanced: whether the host folds it away until asked for; older hosts cannot.
        options: of the host's `Input`. A function stands for what it returns whenever the host asks.
    """

    def __init__(self, kind: Any, *, advanced: bool = False, **options: Any) -> None:
        self.kind, self.options = kind, options
        if advanced and "advanced" in inspect.signature(kind.Input).parameters:
            self.options["advanced"] = True


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a node says of itself, by the names of the host's `Schema`.

    An input's kind is the host's as it is, or `Of` it; an output is shown by its name. Saved workflows hold values by
    position, so that new inputs go last. Aliases are what people type in search of it, where the host can be told.
    """

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Row]
    outputs: list[Row]
    is_output_node: bool = False
    search_aliases: Sequence[str] = ()


class Node(io.ComfyNode):
    """A node that is declared by its `table`."""

    table: ClassVar[Table]

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The table in the host's words."""
        inputs = [_make_input(*row) for row in cls.table.inputs]
        taken = {name for name, _, _ in cls.table.inputs}
        outputs = [_make_output(*row, taken=taken) for row in cls.table.outputs]
        said = {**vars(cls.table), "inputs": inputs, "outputs": outputs}
        known = inspect.signature(io.Schema).parameters
        return io.Schema(**{name: value for name, value in said.items() if name in known})


def check_range(table: Table, name: str, value: Any) -> None:
    """Refuse what its input's row does not allow, where the host leaves that to the node; it lets NaN pass everywhere.

    Raises:
        ConfigError: with the least and the largest.
    """
    kind = next(kind for row, kind, _ in table.inputs if row == name)
    least, most = kind.options["min"], kind.options["max"]
    if not (isinstance(value, int | float) and least <= value <= most):
        raise ConfigError(f"{name} must be from {least} to {most}, got {quoted(value, 80)}")


def check_ranges(table: Table, values: Mapping[str, Any]) -> None:
    """`check_range` of all numbers among an execution's values.

    Raises:
        ConfigError: of the first that is not allowed.
    """
    for name, kind, _ in table.inputs:
        if name in values and isinstance(kind, Of) and "min" in kind.options:
            check_range(table, name, values[name])


def _make_input(name: str, kind: Any, tooltip: str) -> Any:
    of = kind if isinstance(kind, Of) else Of(kind)
    options = {option: value() if callable(value) else value for option, value in of.options.items()}
    return of.kind.Input(name, tooltip=tooltip, **options)


def _make_output(name: str, kind: Any, tooltip: str, *, taken: Collection[str]) -> Any:
    """Its id, which nothing shows, is another one where an input has the name: v0.3.64 refuses the same."""
    return kind.Output(f"{name}_out" if name in taken else name, display_name=name, tooltip=tooltip)
