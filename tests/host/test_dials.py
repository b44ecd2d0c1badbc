"""The inputs that came last: what a graph means that lacks them, and that a new node is the everyday preset."""

import json
from dataclasses import replace

import pytest

from tests.host.graphs import build_upscale

NODES = ["RegionAwareKSampler", "RegionAwareSampler"]
KSAMPLER = {"seed", "steps", "cfg", "scheduler", "denoise"}  # which are not of regions
LAST = ["rule", "likeness", "budget", "visit_last", "mask_means", "own_networks"]
BEFORE = {"rule": "paper", "visit_last": False, "mask_means": "levels", "own_networks": False}
# Base indices of evaluations among 8 steps in strides of three.
PATHS = {
    "none of them": ({}, [0, 3, 6]),
    "the paper's rule": (BEFORE, [0, 3, 6]),
    "the last step too": ({**BEFORE, "visit_last": True}, [0, 3, 6, 7]),
    "as few as may be": ({"rule": "bounded", "budget": 2.0}, [0, 7]),
}


def typed_inputs(pack, node):
    """What a new node of the front end sends: the default of each widget, or the first of its choices."""
    inputs = getattr(pack("nodes.sampling"), node).define_schema().inputs
    return {each.id: first_value(each) for each in inputs if hasattr(each, "default")}


def first_value(widget):
    return widget.options[0] if widget.default is None else widget.default


@pytest.mark.parametrize("node", NODES)
def test_they_are_optional_and_last(pack, node):
    inputs = getattr(pack("nodes.sampling"), node).define_schema().inputs
    assert [each.id for each in inputs[-len(LAST) :]] == LAST
    assert all(each.optional for each in inputs[-len(LAST) :])


@pytest.mark.parametrize("node", NODES)
def test_a_new_node_is_the_everyday_preset(pack, node):
    """But for `first_jump`, which is of the other rule and which ordinary checkpoints want 0."""
    everyday = pack("adadiffsr_core.sampling.config").RegionConfig()
    given = {name: value for name, value in typed_inputs(pack, node).items() if name not in KSAMPLER}
    config = pack("nodes.settings").read_settings(**given).config
    assert config.dtss.first_jump == 0
    assert replace(config, dtss=replace(config.dtss, first_jump=everyday.dtss.first_jump)) == everyday
    assert everyday.dtss.rule == "bounded"


@pytest.mark.parametrize("node", NODES)
def test_without_them_a_graph_goes_by_the_papers_rule(pack, node):
    """As it was posted, that is: the front end fills in their defaults when it opens a canvas that lacks them."""
    given = {name: value for name, value in typed_inputs(pack, node).items() if name not in {*KSAMPLER, *LAST}}
    read_settings = pack("nodes.settings").read_settings
    assert read_settings(**given) == read_settings(**given, **BEFORE)
    assert read_settings(**given).config.dtss.rule == "paper"


@pytest.mark.usefixtures("clean_log")
@pytest.mark.parametrize("case", PATHS)
def test_the_host_runs_them(client, case):
    """Steps that were taken, as the report has them."""
    dials, path = PATHS[case]
    entry = client.run(build_upscale(steps=8, intervals="3, 3, 3, 3", **dials))
    report = json.loads(entry["outputs"]["report"]["text"][0])
    assert {tuple(tile["index"]) for tile in report["tiles"]} == {tuple(path)}
    assert (report["likeness_db"] is None) == (dials.get("rule") != "bounded")
