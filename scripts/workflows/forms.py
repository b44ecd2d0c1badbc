"""A graph in the form that people open and in the one that programs post."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from .graph import Graph
from .layout import Box, arrange
from .node import ALWAYS, BYPASS, NEVER, NOTE, Input, Node, Output
from .reroutes import make_reroutes

PACK = "adadiffsr"
_NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}
# Opened so that all of it can be seen and read on a usual screen; the front end hides text below a scale of 0.6.
_SCALE, _OFFSET = 0.65, [120, 150]
_OPTIONAL_SOCKET = 7  # the front end draws it as a ring
_Json = dict[str, Any]


def graph_to_api(graph: Graph) -> _Json:
    """The form that `/prompt` takes: only what runs."""
    running = [node for node in graph.nodes if node.mode == ALWAYS and node.class_type != NOTE]
    return {str(node.id): _node_to_api(node) for node in running}


def graph_to_ui(graph: Graph) -> _Json:
    """The form that the front end opens, schema version 0.4."""
    links = list(graph.links())
    boxes, groups = arrange(graph.columns)
    reroutes, parents = make_reroutes(graph.nodes, links, boxes, groups)
    led = [{"id": number, "parentId": parent} for number, parent in sorted(parents.items())]
    return {
        "id": make_id(graph.name),
        "revision": 0,
        "last_node_id": len(graph.nodes),
        "last_link_id": len(links),
        "nodes": [node_to_ui(node, boxes[node.id], links) for node in graph.nodes],
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {"ds": {"scale": _SCALE, "offset": _OFFSET}, "reroutes": reroutes, "linkExtensions": led},
        "version": 0.4,
    }


def _node_to_api(node: Node) -> _Json:
    inputs = dict(node.values)
    for name, source in node.links.items():
        if (origin := _origin(source)) is not None:
            inputs[name] = [str(origin.node.id), origin.slot]
    title = node.title or node.schema["display_name"]
    return {"inputs": inputs, "class_type": node.class_type, "_meta": {"title": title}}


def _origin(output: Output | None) -> Output | None:
    """Where a value comes from once bypassed nodes are gone."""
    while output is not None and output.node.mode == BYPASS:
        output = output.node.passes(output)
    return None if output is None or output.node.mode == NEVER else output


def make_id(name: str) -> str:
    """The same id whenever it is built, for what has this name."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{name}"))


def node_to_ui(node: Node, box: Box, links: list[list[Any]]) -> _Json:
    """A node at its place, as the front end saves it, among all `links` of its graph."""
    is_note = node.class_type == NOTE
    owner = {} if is_note else {"cnr_id": PACK if node.class_type.startswith("AdaDiffSR_") else "comfy-core"}
    into = {place: number for number, _, _, target, place, _ in links if target == node.id}
    return {
        "id": node.id,
        "type": node.class_type,
        "pos": [box.left, box.top],
        "size": [box.width, box.height],
        "flags": {"collapsed": True} if node.is_folded else {},
        "order": node.id - 1,
        "mode": node.mode,
        "inputs": [_socket_to_ui(slot, into.get(place)) for place, slot in enumerate(node.sockets)],
        "outputs": list(_outputs_to_ui(node, links)),
        **({"title": node.title} if node.title else {}),
        "properties": {**owner, "Node name for S&R": node.class_type},
        "widgets_values": list(_widget_values(node)),
        **(_NOTE_COLOURS if is_note else {}),
    }


def _socket_to_ui(socket: Input, link: int | None) -> _Json:
    ring = {"shape": _OPTIONAL_SOCKET} if socket.is_optional else {}
    return {"name": socket.name, "type": socket.kind, **ring, "link": link}


def _outputs_to_ui(node: Node, links: list[list[Any]]) -> Iterator[_Json]:
    """None for nodes that end a graph: newer hosts give some of them outputs, older ones do not."""
    leaving = [link for link in links if link[1] == node.id]
    if not leaving and node.schema.get("output_node"):
        return
    for place, (name, kind) in enumerate(zip(node.schema["output_name"], node.schema["output"], strict=True)):
        own = [number for number, _, slot, *_ in leaving if slot == place]
        yield {"name": name, "type": kind, "links": own or None}


def _widget_values(node: Node) -> Iterator[Any]:
    """By position, as saved workflows hold them."""
    if node.class_type == NOTE:
        yield node.values["text"]
    for slot in node.inputs:
        if slot.is_widget:
            yield node.values[slot.name]
        if slot.has_control:
            yield "fixed"  # so that a second run finds everything done
