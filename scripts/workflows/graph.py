"""A workflow described once: nodes and links, and where they are on the canvas.

Where inputs go, and which values they have by default, comes from a running ComfyUI (its `/object_info`), so nothing
here repeats a node's schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .node import NOTE, Node, Output

# The front end would keep it: a line's end that begins no paragraph and no point of a list.
_SOFT_BREAK = re.compile(r"(?<!\n)\n(?!\n|- |\d+\. )")


@dataclass
class Column:
    """Boxes below one another.

    Attributes:
        width: of its nodes, px.
        under: the column that it is below, or None for one right of the last.
        groups: (title, colour, nodes) of each.
    """

    width: int
    under: Column | None = None
    groups: list[tuple[str, str, list[Node]]] = field(default_factory=list)


class Graph:
    """A workflow, filled from left to right and from top to bottom, in one row of columns or several.

    Attributes:
        name: of its files.
        nodes: in an order in which they could run.
        columns: the same from left to right, and below.
    """

    def __init__(self, name: str, schemas: Mapping[str, Any]) -> None:
        """Start empty; `schemas` is what the host's `/object_info` says."""
        self.name, self._schemas = name, schemas
        self.nodes: list[Node] = []
        self.columns: list[Column] = []

    def column(self, width: int, under: Column | None = None) -> Column:
        """Go on in a new column to the right, or below the one it is `under`, nodes being `width` px wide."""
        self.columns.append(Column(width, under))
        return self.columns[-1]

    def group(self, title: str, colour: str) -> None:
        """Go on in a new coloured box below."""
        self.columns[-1].groups.append((title, colour, []))

    def note(self, text: str) -> None:
        """Explain something, in Markdown; a paragraph may be wrapped, a point of a list too."""
        schema: dict[str, Any] = {"input": {}, "output": [], "output_name": []}
        self._place(Node(len(self.nodes) + 1, NOTE, schema, "Note", {"text": _SOFT_BREAK.sub(" ", text.strip())}))

    def add(self, class_type: str, title: str | None = None, /, **inputs: Any) -> Node:
        """Put a node below the last one.

        Args:
            class_type: its id.
            title: its heading, if not its own name.
            inputs: nodes and outputs become links, other values what is typed in; the rest takes its default.

        Raises:
            KeyError: the host has no such node, or the node no such input.
        """
        schema = self._schemas[class_type]
        node = Node(len(self.nodes) + 1, class_type, schema, title, {})
        node.values = {slot.name: slot.default for slot in node.inputs if slot.is_widget}
        for name, value in inputs.items():
            if isinstance(value, Node | Output):
                node.links[name] = value if isinstance(value, Output) else Output(value, 0)
            else:
                node.values[name] = value
        if unknown := (node.values.keys() | node.links.keys()) - {slot.name for slot in node.inputs}:
            raise KeyError(f"{class_type} has no input {unknown.pop()}")
        self._place(node)
        return node

    def links(self) -> Iterator[list[Any]]:
        """`[id, from node, from slot, to node, to slot, kind]` for each."""
        number = 0
        for node in self.nodes:
            for place, socket in enumerate(node.sockets):
                if source := node.links.get(socket.name):
                    number += 1
                    yield [number, source.node.id, source.slot, node.id, place, source.kind]

    def _place(self, node: Node) -> None:
        self.nodes.append(node)
        self.columns[-1].groups[-1][2].append(node)
