"""The shipped blueprint: newer hosts list it among their own, and dropped on a canvas it runs."""

from urllib.error import HTTPError

import pytest

from tests.host.conftest import PACK
from tests.host.server import MODULE

(FILE,) = (PACK / "subgraphs").iterdir()
DIALS = {"checkpoint": "embedded model", "scale_by": 4, "seed": 0, "likeness": 42, "tile_size": 256}
SHOWN = "return Object.fromEntries(app.graph._nodes[0].widgets.map((widget) => [widget.name, widget.value]))"
# A photo before it, and each picture that comes out shown behind it.
CONNECT = """
const [whole] = app.graph._nodes;
const add = (type, pos) => {
  const node = LiteGraph.createNode(type);
  app.graph.add(node);
  node.pos = pos;
  return node;
};
const [left, top] = whole.pos;
add("AdaDiffSR_ExamplePhoto", [left - 400, top]).connect(0, whole, 0);
for (const slot of [0, 1]) whole.connect(slot, add("PreviewImage", [left + 400 + 300 * slot, top]), 0);
"""


def find_id(client):
    """Under which the host lists it."""
    try:
        entries = client.json("/global_subgraphs")
    except HTTPError as error:
        error.close()
        pytest.skip("this host knows of no blueprints")
    (found,) = (key for key, entry in entries.items() if entry["name"] == FILE.stem)
    assert entries[found]["source"] == "custom_node"
    return found


def test_the_host_lists_it_and_hands_it_out(client):
    assert client.json(f"/global_subgraphs/{find_id(client)}")["data"] == FILE.read_text(encoding="utf-8")


@pytest.mark.usefixtures("clean_log")
def test_it_is_found_dropped_and_run(browser, client, screenshots):
    find_id(client)
    browser.open()
    browser.open_template(MODULE, "adadiffsr_upscale")  # which closes what the first visit opens
    browser.script("app.graph.clear()")
    browser.drop(FILE.stem)
    assert browser.script(SHOWN) == DIALS
    browser.script(CONNECT)
    browser.fit()
    entry = browser.run(client)
    browser.screenshot(screenshots / "blueprint.png")
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert len(client.pictures(entry)) == 2
    assert browser.errors() == []
    assert browser.dialogs() == []
