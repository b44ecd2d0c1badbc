"""The live region map: what the sampler tells the page while it runs, and what the page makes of it."""

import json
import logging
import math
import re

import pytest
import torch

from tests.host import tiny
from tests.host.conftest import PACK
from tests.host.graphs import SAMPLING, SCALE, SIDE, build_masked, build_upscale
from tests.host.test_blueprints import CONNECT, FILE, find_id
from tests.host.test_cropping import sample_regions, scattering

EVENT, MAP = "adadiffsr.regions", ".adadiffsr-regions"
CLASSES = ["growing", "stable", "saturated", "untouched"]
SLOW = {"steps": 12, "intervals": "1, 2, 3"}
LOAD = """
return Promise.resolve(app.loadApiJson(arguments[0], "live")).then(() => {
  const widgets = app.graph._nodes.flatMap((node) => node.widgets ?? []);
  for (const widget of widgets) if (widget.value === "randomize") widget.value = "fixed"; // of the seed
});
"""
SAVED = "return JSON.stringify(app.graph.serialize().nodes)"
WATCH = f"""
window.seen = new Set();
setInterval(() => {{
  const canvas = document.querySelector('{MAP} canvas');
  if (canvas) window.seen.add(canvas.toDataURL());
}}, 150);
"""
WORDS = f"return document.querySelector('{MAP}')?.innerText"
SHOW = """
const node = app.graph._nodes.find((node) => node.type === "AdaDiffSR_RegionAwareKSampler");
const { ds } = app.canvas;
ds.scale = 0.6;
[ds.offset[0], ds.offset[1]] = [500 - node.pos[0], 150 - node.pos[1]];
app.canvas.setDirty(true, true);
return new Promise((done) => setTimeout(done, 1000));
"""
TELL = f"""
const head = {{ node: "tiles", type: "AdaDiffSR_RegionAwareKSampler" }};
const tell = (data) => window.comfyAPI.api.api.dispatchCustomEvent("{EVENT}", {{ ...head, ...data }});
tell({{ canvas: [256, 256], images: 1, steps: 4, cells: [[0, 0, 128, 256], [128, 0, 256, 256]], tiles: [] }});
tell({{ tiles: [[0, 4, 1, 1], [1, 2, 0, 1]], stories: [[[0, 1, 2, 3], null], [[0, 3], 41.5]] }});
"""


def told(run):
    return [message["data"] for message in run.messages if message["type"] == EVENT]


def final_states(messages):
    """What the page knows at the end, by tile id."""
    return {tile_id: state for message in messages for tile_id, *state in message["tiles"]}


def reported(entry):
    return json.loads(entry["outputs"]["report"]["text"][0])


@pytest.mark.usefixtures("clean_log")
@pytest.mark.parametrize("merge_mode", ["final", "every_step"])
def test_what_is_told_adds_up_to_the_run_report(client, merge_mode):
    run = client.record(build_upscale(seed=41, merge_mode=merge_mode, rule="bounded", likeness=30, **SLOW))
    messages, report = told(run), reported(run.entry)
    first, last = messages[0], messages[-1]
    assert {message["node"] for message in messages} == {"tiles"}
    assert first["canvas"] == [SIDE * SCALE] * 2
    assert first["images"] * len(first["cells"]) == len(report["tiles"]) > 1
    assert first["steps"] == report["base_steps"]
    expected = {number: [tile["nfe"], CLASSES.index(tile["outcome"]), 1] for number, tile in enumerate(report["tiles"])}
    assert final_states(messages) == expected
    assert last["stories"] == [[tile["index"], tile["likeness_db"]] for tile in report["tiles"]]
    assert len(messages) <= 2 + 4 * math.ceil(report["seconds"])


def test_cells_cover_the_picture_once(client):
    run = client.record(build_upscale(seed=42))
    first, cover = told(run)[0], torch.zeros(SIDE * SCALE, SIDE * SCALE)
    for left, top, right, bottom in first["cells"]:
        cover[top:bottom, left:right] += 1
    assert (cover == 1).all()


def test_what_the_mask_leaves_alone_is_told_at_once(client):
    messages = told(client.record(build_masked(0.0, seed=43)))
    count = len(messages[0]["cells"])
    assert final_states(messages[:1]) == final_states(messages) == {n: [0, 3, 1] for n in range(count)}


@pytest.mark.usefixtures("clean_log")
def test_a_prompt_without_a_page_runs(client):
    entry = client.run(build_upscale(seed=44))
    assert entry["status"]["status_str"] == "success"


def sample(host, pack):
    return sample_regions(host, pack, tiny.build_model(host), tiny.text(), tile_batch=2, **scattering(pack))[1]


def test_the_picture_is_the_same_to_the_bit_whoever_listens(host, pack, monkeypatch):
    alone, messages = sample(host, pack), []
    monkeypatch.setattr(pack("nodes.host.live"), "find_page", lambda: messages.append)
    assert torch.equal(sample(host, pack), alone)
    assert len(messages) >= 2


@pytest.mark.parametrize("sound", [0, 1])
def test_a_failure_to_tell_is_logged_once_and_breaks_nothing(host, pack, monkeypatch, caplog, sound):
    live, alone, messages = pack("nodes.host.live"), sample(host, pack), []

    def send(message):
        messages.append(message)
        if len(messages) > sound:
            raise OSError("the line is dead")

    monkeypatch.setattr(live, "find_page", lambda: send)
    monkeypatch.setattr(live, "MESSAGES_PER_SECOND", math.inf)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(sample(host, pack), alone)
    assert len(messages) == sound + 1
    assert [record.name for record in caplog.records] == [live.__name__]


def test_between_the_first_and_the_last_four_messages_are_sent_a_second_at_most(host, pack, monkeypatch):
    live, clock, messages = pack("nodes.host.live"), [0.0], []

    def tick():
        clock[0] += 1 / 16
        return clock[0]

    monkeypatch.setattr(live, "find_page", lambda: lambda message: messages.append(clock[0]))
    monkeypatch.setattr(live, "monotonic", tick)
    sample(host, pack)
    gaps = [after - before for before, after in zip(messages[:-2], messages[1:-1], strict=True)]
    assert len(gaps) > 5
    assert min(gaps) >= 1 / 4


def test_the_page_has_the_region_maps_colours(pack):
    script = (PACK / "web" / "region_map.js").read_text(encoding="utf-8")
    colours = [tuple(bytes.fromhex(colour)) for colour in re.findall('"#([0-9a-f]{6})"', script)]
    pictures, primitives = pack("adadiffsr_core.drawing.pictures"), pack("adadiffsr_core.drawing.primitives")
    assert colours[: len(primitives.VIRIDIS)] == list(primitives.VIRIDIS)
    classes = [
        (name, tuple(bytes.fromhex(colour))) for name, colour in re.findall('\\["([a-z]+)", "#(.{6})"\\]', script)
    ]
    assert classes == list(pictures.CLASS_COLOURS.items())


@pytest.fixture(params=["classic", "new"])
def page(browser, request):
    """The browser with one of the host's two renderers."""
    browser.open()
    browser.use_renderer(request.param == "new")
    yield browser
    browser.use_renderer(False)


def seed(page):
    """Another for each renderer, so that the host samples anew."""
    return 45 + page.script("return Number(Boolean(LiteGraph.vueNodesMode))")


def require_widgets(page):
    if page.is_experimental():
        pytest.skip("the new renderer of this front end draws no HTML widgets")


@pytest.mark.usefixtures("clean_log")
def test_the_map_moves_while_the_run_does_and_tells_its_story_afterwards(page, client):
    page.script(LOAD, build_upscale(seed=seed(page), **SLOW))
    before = saved_sampler(page)
    page.script(WATCH)
    entry = page.run(client)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert page.errors() == []
    after = saved_sampler(page)
    assert before.get("widgets_values") == after.get("widgets_values")
    assert len(after["widgets_values"]) >= len(SAMPLING)
    require_widgets(page)
    assert page.script("return window.seen.size") > 2
    report = reported(entry)
    assert f"took {report['nfe']} of {report['full_nfe']} evaluations" in page.script(WORDS)
    page.script(SHOW)
    page.hover(f"{MAP} canvas")
    steps = [", ".join(map(str, tile["index"])) for tile in report["tiles"]]
    assert any(f"at base steps {indices};" in page.script(WORDS) for indices in steps)


def saved_sampler(page):
    return saved_node(page, "AdaDiffSR_RegionAwareKSampler")


def saved_node(page, kind):
    node = next(node for node in json.loads(page.script(SAVED)) if node["type"] == kind)
    return node | {"order": None}  # in which nodes run, which the page works out when they do


def test_a_workflow_is_saved_as_if_there_were_no_map(page):
    page.script(LOAD, build_upscale())
    before = page.script(SAVED)
    page.script(TELL)
    page.hover("body")  # the page takes its time to lay things out
    assert page.script("return app.graph._nodes.some(n => n.widgets?.some(w => w.name === 'adadiffsr_regions'))")
    assert page.script(SAVED) == before
    assert page.errors() == []
    require_widgets(page)
    assert "2 tiles took 6 of 8 evaluations (75 %)" in page.script(WORDS)


@pytest.mark.usefixtures("clean_log")
def test_a_subgraph_that_is_closed_shows_the_map_of_the_sampler_in_it(page, client, screenshots):
    find_id(client)
    page.script("app.graph.clear()")
    page.drop(FILE.stem)
    page.script(CONNECT)
    page.script("app.graph._nodes[0].widgets.find((widget) => widget.name === 'seed').value = arguments[0]", seed(page))
    page.fit()
    kind = page.script("return app.graph._nodes[0].type")
    before = saved_node(page, kind)
    page.script(WATCH)
    entry = page.run(client)
    page.screenshot(screenshots / f"live_map_on_a_subgraph_{page.script('return Boolean(LiteGraph.vueNodesMode)')}.png")
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert page.errors() == []
    assert saved_node(page, kind) == before
    require_widgets(page)
    assert page.script("return window.seen.size") > 2
    assert "evaluations (" in page.script(WORDS)
