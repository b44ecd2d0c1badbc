"""A graph as one node that is dropped where it is wanted: newer hosts list the files of `subgraphs` as blueprints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .forms import PACK, make_id, node_to_ui
from .graph import Graph
from .layout import GAP, arrange
from .node import ALWAYS, Node, Output
from .reroutes import make_reroutes

# The front end's: the ids of what goes into a subgraph and of what comes out, and what is said of a link within.
_ENTRANCE, _EXIT = -10, -20
_LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
_DOOR, _WHOLE = (120, 80), (300, 250)  # how large either end is drawn, and the whole, px
_Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Face:
    """What is seen of a graph from outside.

    Attributes:
        description: for those who look for it.
        entrance: whose outputs are what goes in, from `make_entrance`.
        dials: widgets within that are shown: node, name.
        results: what comes out, by name.
    """

    description: str
    entrance: Node
    dials: Sequence[tuple[Node, str]]
    results: Mapping[str, Output]

    @property
    def sockets(self) -> Mapping[str, str]:
        """Kinds of what goes in, by name."""
        return dict(zip(self.entrance.schema["output_name"], self.entrance.schema["output"], strict=True))

    @property
    def kinds(self) -> Mapping[str, str]:
        """Kinds of what comes out, by name."""
        return {name: output.kind for name, output in self.results.items()}


def make_entrance(**kinds: str) -> Node:
    """What goes in, by name; within the graph its outputs are linked like any node's."""
    return Node(_ENTRANCE, "", {"input": {}, "output": list(kinds.values()), "output_name": list(kinds)}, None, {})


def graph_to_blueprint(graph: Graph, face: Face) -> _Json:
    """A canvas with one node, which holds the graph, as the front end saves what people publish of their own."""
    kind = make_id(graph.name)
    whole = {
        "id": 1,
        "type": kind,
        "pos": [0, 0],
        "size": list(_WHOLE),
        "flags": {},
        "order": 0,
        "mode": ALWAYS,
        "inputs": [{"name": name, "type": kind, "link": None} for name, kind in face.sockets.items()],
        "outputs": [{"name": name, "type": kind, "links": None} for name, kind in face.kinds.items()],
        "title": graph.name,
        "properties": {"cnr_id": PACK, "proxyWidgets": [[str(node.id), name] for node, name in face.dials]},
        "widgets_values": [],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [whole],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [{"id": kind, **_look_inside(graph, face)}]},
        "extra": {},
    }


def _look_inside(graph: Graph, face: Face) -> _Json:
    links = list(graph.links())
    for place, output in enumerate(face.results.values()):
        links.append([len(links) + 1, output.node.id, output.slot, _EXIT, place, output.kind])
    boxes, groups = arrange(graph.columns)
    right = max(left + width for left, _, width, _ in (group["bounding"] for group in groups))
    entrance, end = [-_DOOR[0] - GAP, 0, *_DOOR], [right + GAP, 0, *_DOOR]
    doors = {
        number: (x, y, x + width, y + height) for number, (x, y, width, height) in ((_ENTRANCE, entrance), (_EXIT, end))
    }
    reroutes, parents = make_reroutes(graph.nodes, links, boxes, groups, doors)
    last = {
        "lastGroupId": len(groups),
        "lastNodeId": len(graph.nodes),
        "lastLinkId": len(links),
        "lastRerouteId": len(reroutes),
    }
    return {
        "version": 1,
        "state": last,
        "revision": 0,
        "config": {},
        "name": graph.name,
        "inputNode": {"id": _ENTRANCE, "bounding": entrance},
        "outputNode": {"id": _EXIT, "bounding": end},
        "inputs": _make_door(graph, face.sockets, [(link[0], link[1:3]) for link in links], _ENTRANCE),
        "outputs": _make_door(graph, face.kinds, [(link[0], link[3:5]) for link in links], _EXIT),
        "widgets": [],
        "nodes": [node_to_ui(node, boxes[node.id], links) for node in graph.nodes],
        "groups": groups,
        "links": [_link_to_ui(link, parents.get(link[0])) for link in links],
        "reroutes": reroutes,
        "extra": {},
        "category": "AdaDiffSR",
        "description": face.description,
    }


def _link_to_ui(link: list[Any], parent: int | None) -> _Json:
    led = {} if parent is None else {"parentId": parent}
    return {**dict(zip(_LINK, link, strict=True)), **led}


def _make_door(graph: Graph, kinds: Mapping[str, str], ends: list[tuple[int, list[int]]], door: int) -> list[_Json]:
    """Either end of a subgraph: each name with the numbers of the links that end there."""
    return [
        {
            "id": make_id(f"{graph.name}/{door}/{name}"),
            "name": name,
            "type": kind,
            "linkIds": [number for number, end in ends if end == [door, place]],
        }
        for place, (name, kind) in enumerate(kinds.items())
    ]
