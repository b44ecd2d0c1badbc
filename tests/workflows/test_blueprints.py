"""The shipped blueprints, read as files: one node outside, and within it nothing loose."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "subgraphs"
FILES = sorted(FOLDER.iterdir())
ENTRANCE, EXIT = -10, -20


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def blueprint(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def look_inside(blueprint):
    (inside,) = blueprint["definitions"]["subgraphs"]
    return inside, {node["id"]: node for node in inside["nodes"]}


def test_there_is_one():
    assert [file.name for file in FILES] == ["Upscale step by step (AdaDiffSR).json"]


def test_it_is_one_node_with_the_sockets_of_the_graph_within(blueprint):
    inside, _ = look_inside(blueprint)
    (whole,) = blueprint["nodes"]
    assert whole["type"] == inside["id"]
    assert whole["title"] == inside["name"]
    for side in ("inputs", "outputs"):
        shown, meant = ([(socket["name"], socket["type"]) for socket in part[side]] for part in (whole, inside))
        assert shown == meant


def test_every_link_has_both_ends_and_one_kind(blueprint):
    inside, nodes = look_inside(blueprint)
    for link in inside["links"]:
        ends = []
        for side, door, sockets in (("origin", ENTRANCE, "inputs"), ("target", EXIT, "outputs")):
            place, slot = link[f"{side}_id"], link[f"{side}_slot"]
            within = "outputs" if side == "origin" else "inputs"
            ends.append((inside[sockets] if place == door else nodes[place][within])[slot])
        for end in ends:
            assert end["type"] == link["type"]
            assert link["id"] in {end.get("link"), *(end.get("links") or []), *end.get("linkIds", [])}
    doors = [number for side in ("inputs", "outputs") for socket in inside[side] for number in socket["linkIds"]]
    own = [socket["link"] for node in nodes.values() for socket in node["inputs"] if socket["link"]]
    assert {*doors, *own} == {link["id"] for link in inside["links"]}


def test_what_is_dialled_outside_is_within(blueprint):
    _, nodes = look_inside(blueprint)
    dials = blueprint["nodes"][0]["properties"]["proxyWidgets"]
    assert {int(node) for node, _ in dials} <= nodes.keys()
    assert [name for _, name in dials] == ["checkpoint", "scale_by", "seed", "likeness", "tile_size"]


def test_it_says_what_it_is_for(blueprint):
    inside, _ = look_inside(blueprint)
    assert inside["category"] == "AdaDiffSR"
    assert len(inside["description"]) > 80
