"""The shipped workflows, read as files: each has its API twin, and nothing in it is open, strange or hidden."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
ALWAYS, NEVER, BYPASS = 0, 2, 4
HEADER = 30  # of a node, px above its box
CORE = {
    "ImageScaleBy",
    "ImageScale",
    "VAEEncode",
    "VAEDecode",
    "SaveImage",
    "PreviewImage",
    "PreviewAny",
    "SolidMask",
    "MaskComposite",
    "MaskToImage",
    "MarkdownNote",
    "CLIPTextEncode",
    "ControlNetLoader",
    "ControlNetApplyAdvanced",
    "RandomNoise",
    "CFGGuider",
    "BasicScheduler",
    "SamplerCustomAdvanced",
}
LOAD_IMAGE = (315, 315)  # how large the front end makes that node
WIDEST, HIGHEST = 1600, 807  # px; the front end opens that on 1366 x 768 at 60 % or more, where text can be read
EXPECTED = {"upscale", "upscale_4x", "own_checkpoint", "adaptive_and_uniform", "compute_mask", "quality", "any_guider"}


def read(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def read_api(name):
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def nodes_of(name):
    return {node["id"]: node for node in read(name)["nodes"]}


def sources_of(name):
    """Where each link into a running node comes from once bypassed nodes are gone: (node, socket) -> (node, slot)."""
    nodes = nodes_of(name)
    links = {number: (source, slot, target, place) for number, source, slot, target, place, _ in read(name)["links"]}

    def origin(link):
        source, slot, *_ = links[link]
        node = nodes[source]
        if node["mode"] == BYPASS:
            kind = node["outputs"][slot]["type"]
            before = [socket for socket in node["inputs"] if socket["type"] == kind]
            same = [socket for socket in before if node["inputs"].index(socket) == slot]
            return origin((same or before)[0]["link"])
        assert node["mode"] == ALWAYS
        return str(source), slot

    return {
        (str(target), nodes[target]["inputs"][place]["name"]): origin(number)
        for number, (_, _, target, place) in links.items()
        if nodes[target]["mode"] == ALWAYS
    }


def test_all_are_there_and_nothing_else():
    assert {name.removeprefix("adadiffsr_") for name in NAMES} == EXPECTED
    assert sorted(path.stem for path in (FOLDER / "api").iterdir()) == NAMES
    assert {path.name for path in FOLDER.iterdir()} == {f"{n}{end}" for n in NAMES for end in (".json", ".jpg")} | {
        "api"
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_api_form_has_the_nodes_that_run(name):
    running = [n for n in nodes_of(name).values() if n["mode"] == ALWAYS and n["type"] != "MarkdownNote"]
    assert {key: node["class_type"] for key, node in read_api(name).items()} == {
        str(node["id"]): node["type"] for node in running
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_api_form_has_the_same_links(name):
    links = {
        (key, socket): tuple(value)
        for key, node in read_api(name).items()
        for socket, value in node["inputs"].items()
        if isinstance(value, list)
    }
    assert links == sources_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_api_form_has_the_same_values(name):
    for key, node in read_api(name).items():
        typed = [value for value in node["inputs"].values() if not isinstance(value, list)]
        shown = list(nodes_of(name)[int(key)]["widgets_values"])
        if seed := {"seed", "noise_seed"} & node["inputs"].keys():  # the front end puts a widget of its own behind it
            assert shown.pop(list(node["inputs"]).index(seed.pop()) + 1) == "fixed"
        assert shown == typed


@pytest.mark.parametrize("name", NAMES)
def test_every_link_has_both_ends_and_one_kind(name):
    workflow, nodes = read(name), nodes_of(name)
    ends = set()
    for number, source, slot, target, place, kind in workflow["links"]:
        output, socket = nodes[source]["outputs"][slot], nodes[target]["inputs"][place]
        assert number in output["links"]
        assert socket["link"] == number
        assert output["type"] == kind
        assert socket["type"] in (kind, "*")
        assert source < target  # so that nothing goes in a circle
        ends |= {(number, "from", source), (number, "to", target)}
    told = {(link, "to", node["id"]) for node in nodes.values() for s in node["inputs"] if (link := s["link"])}
    told |= {(link, "from", n["id"]) for n in nodes.values() for o in n["outputs"] for link in o["links"] or []}
    assert told == ends
    assert workflow["last_link_id"] == len(workflow["links"]) == max(link[0] for link in workflow["links"])
    assert workflow["last_node_id"] == len(nodes) == max(nodes)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_must_be_open_is_open(name):
    """A running node's sockets are linked, but for the optional ones."""
    optional = 7
    running = [node for node in nodes_of(name).values() if node["mode"] == ALWAYS]
    open_sockets = [s for node in running for s in node["inputs"] if s["link"] is None and s.get("shape") != optional]
    assert open_sockets == []


@pytest.mark.parametrize("name", NAMES)
def test_only_core_nodes_and_ours(name):
    types = {node["type"] for node in nodes_of(name).values()}
    assert {kind for kind in types if not kind.startswith("AdaDiffSR_")} <= CORE


@pytest.mark.parametrize("name", NAMES)
def test_nothing_has_to_be_downloaded(name):
    for node in read_api(name).values():
        assert "ckpt_name" not in node["inputs"]
        assert node["inputs"].get("checkpoint", "embedded model") == "embedded model"
        assert node["class_type"] not in ("ControlNetLoader", "LoadImage", "VAELoader")


def test_the_own_checkpoint_waits_for_prompts_and_controlnet():
    modes = {}
    for node in nodes_of("adadiffsr_own_checkpoint").values():
        modes.setdefault(node["mode"], []).append(node["type"])
    assert modes[NEVER] == ["CLIPTextEncode", "CLIPTextEncode"]
    assert modes[BYPASS] == ["ControlNetLoader", "ControlNetApplyAdvanced"]


@pytest.mark.parametrize("name", NAMES)
def test_it_explains_itself(name):
    notes = [node["widgets_values"][0] for node in nodes_of(name).values() if node["type"] == "MarkdownNote"]
    assert notes[0].startswith("# ")
    assert all(re.search(r"[.:]$", note) and "  " not in note for note in notes)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read_on_a_small_screen(name):
    groups = [group["bounding"] for group in read(name)["groups"]]
    assert max(left + width for left, _, width, _ in groups) <= WIDEST
    assert max(top + height for _, top, _, height in groups) <= HIGHEST


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_over_anything(name):
    workflow = read(name)
    boxes = [box_of(node) for node in workflow["nodes"]]
    groups = [(x, y, x + width, y + height) for x, y, width, height in (g["bounding"] for g in workflow["groups"])]
    assert not any(overlap(*pair) for pair in [*combinations(boxes, 2), *combinations(groups, 2)])
    assert all(sum(contains(group, box) for group in groups) == 1 for box in boxes)


@pytest.mark.parametrize("name", NAMES)
def test_load_image_fits_where_the_example_photo_is(name):
    nodes = read(name)["nodes"]
    photo = next(node for node in nodes if node["type"] == "AdaDiffSR_ExamplePhoto")
    others = [box_of(node) for node in nodes if node is not photo]
    larger = box_of({**photo, "size": LOAD_IMAGE})
    assert not any(overlap(larger, other) for other in others)


def box_of(node):
    """Left, top, right, bottom; of a folded node only its header is seen."""
    (left, top), (width, height) = node["pos"], node["size"]
    return left, top - HEADER, left + width, top + (0 if node["flags"].get("collapsed") else height)


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def contains(group, box):
    return group[0] <= box[0] and group[1] <= box[1] and box[2] <= group[2] and box[3] <= group[3]


def test_ids_are_all_different():
    assert len({read(name)["id"] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_thumbnail_is_a_small_picture(name):
    file = FOLDER / f"{name}.jpg"
    with Image.open(file) as picture:
        picture.load()
        assert picture.format == "JPEG"
        assert picture.size == (512, 384)
        assert max(high - low for low, high in picture.getextrema()) > 100  # it shows something
    assert file.stat().st_size < 60_000
