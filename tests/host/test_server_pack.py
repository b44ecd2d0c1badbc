"""What the host has to say of the pack before anything runs: nodes, words, templates, help."""

import pytest

from tests.host.conftest import PACK
from tests.host.server import MODULE, find_complaints

NODES = [
    "AdaDiffSR_LoadCheckpoint",
    "AdaDiffSR_LoadMMLE",
    "AdaDiffSR_LoadPFJ",
    "AdaDiffSR_RegionAwareKSampler",
    "AdaDiffSR_RegionAwareSampler",
    "AdaDiffSR_GaussianLatentMerge",
    "AdaDiffSR_RegionMap",
    "AdaDiffSR_GainCurves",
    "AdaDiffSR_RunReport",
    "AdaDiffSR_ColourMatch",
    "AdaDiffSR_ImageQuality",
    "AdaDiffSR_Compare",
    "AdaDiffSR_ExamplePhoto",
    "AdaDiffSR_TrainMMLE",
    "AdaDiffSR_UpscaleByRegions",
]
LANGUAGES = ["en", "zh", "ja", "de"]
TEMPLATES = sorted(file.stem for file in (PACK / "workflows").glob("*.json"))
CATEGORIES = {"AdaDiffSR"} | {f"AdaDiffSR/{name}" for name in ("loaders", "sampling", "results", "image", "training")}


@pytest.fixture(scope="module")
def nodes(client):
    """What the host says of every node of ours."""
    return {name: info for name, info in client.object_info().items() if name.startswith("AdaDiffSR_")}


def list_inputs(info):
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def test_the_pack_loads_without_complaint(server):
    assert f"seconds: {server.pack}" in server.startup  # or "seconds (IMPORT FAILED): ..."
    assert find_complaints(server.startup) == []


def test_every_node_is_there(nodes):
    assert sorted(nodes) == sorted(NODES)


def test_nodes_come_from_the_pack(nodes):
    assert {info["python_module"] for info in nodes.values()} == {f"custom_nodes.{MODULE}"}


@pytest.mark.parametrize("name", NODES)
def test_a_node_explains_itself(nodes, name):
    info = nodes[name]
    assert info["category"] in CATEGORIES
    assert len(info["description"]) > 20
    wordless = [key for key, value in list_inputs(info).items() if not value[1].get("tooltip")]
    assert wordless == []
    assert len(info["output"]) == len(info["output_name"]) == len(info["output_tooltips"])
    assert all(info["output_tooltips"])


@pytest.mark.parametrize("name", NODES)
def test_help_is_served(client, name):
    assert len(client.get(f"/extensions/{MODULE}/docs/{name}.md").strip()) > 100


def test_every_template_is_listed(client):
    assert sorted(client.json("/workflow_templates")[MODULE]) == TEMPLATES
    assert TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_served_with_its_picture(client, name):
    assert client.json(f"/api/workflow_templates/{MODULE}/{name}.json")["nodes"]
    assert client.get(f"/api/workflow_templates/{MODULE}/{name}.jpg").startswith(b"\xff\xd8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_node_is_translated(client, nodes, language):
    words = client.json("/i18n")[language]["nodeDefs"]
    for name, info in nodes.items():
        assert words[name]["display_name"]
        assert words[name]["description"]
        untold = [key for key in list_inputs(info) if not words[name].get("inputs", {}).get(key, {}).get("tooltip")]
        assert (name, untold) == (name, [])
