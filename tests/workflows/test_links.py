"""No link of what is shipped is drawn under a node: told from the files, by how the front end draws links."""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "workflows").glob("*.json"), *(ROOT / "subgraphs").glob("*.json")])
HEADER, SLOT, INSET, DOOR_INSET = 30, 20, 10, 24  # px
PART, FARTHEST = 0.25, 20  # of a curve's handles: of its length; at a reroute no farther than that, px
CURVE = [step / 200 for step in range(201)]
# How high a node may become, px: replaced by Load Image, or with what it shows while it runs.
GROWN = {"AdaDiffSR_ExamplePhoto": 315}
GROWN |= dict.fromkeys(["AdaDiffSR_UpscaleByRegions", "AdaDiffSR_RegionAwareKSampler"], math.inf)
RENDERERS = ["classic", "new"]


@dataclass
class Canvas:
    """What is drawn; `inset` is how far a node's slots are within it."""

    nodes: dict
    links: dict
    reroutes: dict
    parents: dict
    doors: dict
    inset: int

    def stops(self, number):
        """Where a link leaves, its reroutes, and where it arrives."""
        source, slot, target, place = self.links[number]
        middle = [tuple(self.reroutes[reroute]["pos"]) for reroute in self.chain(number)]
        return [self.output(source, slot), *middle, self.input(target, place)]

    def chain(self, number):
        """Ids of a link's reroutes, the first one first."""
        found, last = [], self.parents.get(number)
        while last is not None:
            found.insert(0, last)
            last = self.reroutes[last].get("parentId")
        return found

    def input(self, node, slot):
        left, top, *_ = self.box(node)
        if node in self.doors:
            return left + DOOR_INSET, top + DOOR_INSET + SLOT * slot
        if self.nodes[node]["flags"].get("collapsed"):
            return left, top + HEADER / 2
        return left + self.inset, top + HEADER + SLOT * (slot + 0.7)

    def output(self, node, slot):
        _, top, right, _ = self.box(node)
        if node in self.doors:
            return right - DOOR_INSET, top + DOOR_INSET + SLOT * slot
        if self.nodes[node]["flags"].get("collapsed"):
            return right, top + HEADER / 2
        return right - self.inset, top + HEADER + SLOT * (slot + 0.7)

    def box(self, node):
        """Left, top, right, bottom, with the header, and as large as it may become."""
        if node in self.doors:
            left, top, width, height = self.doors[node]
            return left, top, left + width, top + height
        saved = self.nodes[node]
        (left, top), (width, height) = saved["pos"], saved["size"]
        height = 0 if saved["flags"].get("collapsed") else max(height, GROWN.get(saved["type"], 0))
        return left, top - HEADER, left + width, top + height

    def slope(self, reroute):
        """Direction of the curve at a reroute: halfway between where it comes from and where it goes on."""
        ways = [
            (self.stops(number), self.chain(number).index(reroute) + 1) for number in self.reroutes[reroute]["linkIds"]
        ]
        stops, place = ways[0]
        coming = look(stops[place - 1], stops[place])
        going = sum(look(stops[place], stops[place + 1]) for stops, place in ways) / len(ways)
        turn = (coming - going) / 2
        return coming - turn - (math.pi if abs(turn) > math.pi / 2 else 0)

    def draw(self, number):
        """Points of a link, each piece with the nodes that it may be over."""
        stops, slopes = self.stops(number), [self.slope(reroute) for reroute in self.chain(number)]
        source, _, target, _ = self.links[number]
        for place, (one, other) in enumerate(pairwise(stops)):
            is_first, is_last = place == 0, place == len(slopes)
            reach = PART * math.dist(one, other)
            leaving = go(one, 0, reach) if is_first else go(one, slopes[place - 1], min(reach, FARTHEST))
            arriving = (
                go(other, math.pi, reach) if is_last else go(other, slopes[place] + math.pi, min(reach, FARTHEST))
            )
            points = [bend(part, one, leaving, arriving, other) for part in CURVE]
            yield points, {*([source] if is_first else []), *([target] if is_last else [])}

    def hidden(self):
        """Each link that is under a node, with that node's id."""
        return {
            (number, node)
            for number in self.links
            for points, own in self.draw(number)
            for node in self.nodes.keys() - own
            if any(is_in(point, self.box(node)) for point in points)
        }


def look(one, other):
    return math.atan2(other[1] - one[1], other[0] - one[0])


def go(point, direction, distance):
    return point[0] + distance * math.cos(direction), point[1] + distance * math.sin(direction)


def bend(part, *points):
    while len(points) > 1:  # de Casteljau
        points = [tuple(a + part * (b - a) for a, b in zip(*pair, strict=True)) for pair in pairwise(points)]
    return points[0]


def is_in(point, box):
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def read(file, renderer):
    graph = json.loads(file.read_text(encoding="utf-8"))
    doors = {}
    if "definitions" in graph:
        (graph,) = graph["definitions"]["subgraphs"]
        doors = {graph[door]["id"]: graph[door]["bounding"] for door in ("inputNode", "outputNode")}
        links = {
            link["id"]: [link[f"{end}_{what}"] for end in ("origin", "target") for what in ("id", "slot")]
            for link in graph["links"]
        }
        reroutes, parents = graph["reroutes"], {link["id"]: link.get("parentId") for link in graph["links"]}
    else:
        links = {number: ends for number, *ends, _ in graph["links"]}
        reroutes, parents = (graph["extra"][name] for name in ("reroutes", "linkExtensions"))
        parents = {link["id"]: link["parentId"] for link in parents}
    return Canvas(
        nodes={node["id"]: node for node in graph["nodes"]},
        links=links,
        reroutes={reroute["id"]: reroute for reroute in reroutes},
        parents=parents,
        doors=doors,
        inset=INSET if renderer == "classic" else 0,
    )


@pytest.mark.parametrize("renderer", RENDERERS)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_link_is_under_a_node(file, renderer):
    assert read(file, renderer).hidden() == set()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_reroutes_and_links_know_one_another(file):
    canvas = read(file, "classic")
    told = {(reroute, number) for number in canvas.links for reroute in canvas.chain(number)}
    assert {(key, number) for key, reroute in canvas.reroutes.items() for number in reroute["linkIds"]} == told
    assert all(len({tuple(canvas.links[number][:2]) for number in r["linkIds"]}) == 1 for r in canvas.reroutes.values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_links_would_be_under_nodes_without_reroutes(file):
    """So that the test of them tells something."""
    canvas = read(file, "classic")
    canvas.parents = {}
    assert canvas.hidden()
