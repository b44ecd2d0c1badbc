"""Nodes as the host's `/object_info` describes them, and the links between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

ALWAYS, NEVER, BYPASS = 0, 2, 4
NOTE = "MarkdownNote"
_WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


@dataclass(frozen=True)
class Input:
    """One input, as a node's schema has it.

    Attributes:
        name, kind: of the input; the kind of a choice is COMBO.
        is_optional: whether it may stay open.
        is_widget: whether its value is typed in.
        default: its value if nothing is said.
        has_control: whether the front end puts "control after generate" behind it.
    """

    name: str
    kind: str
    is_optional: bool
    is_widget: bool
    default: Any
    has_control: bool


@dataclass(frozen=True)
class Output:
    """One end of a link: the output `slot` of `node`."""

    node: Node
    slot: int

    @property
    def kind(self) -> str:
        """What it carries, such as IMAGE."""
        return str(self.node.schema["output"][self.slot])


@dataclass(eq=False)
class Node:
    """A node in a graph; as a value it stands for its first output, `node["vae"]` for the one of that name."""

    id: int
    class_type: str
    schema: Mapping[str, Any]
    title: str | None
    values: dict[str, Any]
    links: dict[str, Output] = field(default_factory=dict)
    mode: int = ALWAYS
    height: int | None = None
    room: int = 0
    is_folded: bool = False
    is_growing: bool = False

    def __getitem__(self, name: str) -> Output:
        return Output(self, self.schema["output_name"].index(name))

    def muted(self) -> Node:
        """Not run, with all that hangs on it."""
        self.mode = NEVER
        return self

    def bypassed(self) -> Node:
        """Not run; what comes in goes through."""
        self.mode = BYPASS
        return self

    def tall(self, height: int) -> Node:
        """So high on the canvas, px: for nodes that show pictures or text."""
        self.height = height
        return self

    def with_room(self, height: int) -> Node:
        """Keep so much place for it, px: for nodes that larger ones are put in the place of, or that grow."""
        self.room = height
        return self

    def folded(self) -> Node:
        """Only its heading: for nodes between two others at which nothing is to be set."""
        self.is_folded = True
        return self

    def growing(self) -> Node:
        """Without an end below: for nodes that grow while they run."""
        self.is_growing = True
        return self

    @property
    def inputs(self) -> list[Input]:
        """By the schema's order."""
        return list(_read_inputs(self.schema["input"]))

    @property
    def sockets(self) -> list[Input]:
        """Those that only a link can fill; the front end numbers them."""
        return [slot for slot in self.inputs if not slot.is_widget]

    def passes(self, output: Output) -> Output | None:
        """What a bypassed node lets through to `output`: the input in its place, or else the first of its kind."""
        alike = [place for place, socket in enumerate(self.sockets) if socket.kind == output.kind]
        place = output.slot if output.slot in alike else min(alike)
        return self.links.get(self.sockets[place].name)


def _read_inputs(spec: Mapping[str, Any]) -> Iterator[Input]:
    for part in ("required", "optional"):
        for name, (kind, *rest) in spec.get(part, {}).items():
            options = rest[0] if rest else {}
            choices = kind if isinstance(kind, list) else options.get("options", [])
            kind = "COMBO" if isinstance(kind, list) else kind
            empty = choices[0] if choices else "" if kind in ("STRING", "COMBO") else 0
            yield Input(
                name,
                kind,
                part == "optional",
                kind in _WIDGETS,
                options.get("default", empty),
                bool(options.get("control_after_generate")),
            )
