"""Every workflow as an artist meets it: chosen from the template list, run unedited, looked at."""

import json
from itertools import combinations

import pytest

from tests.host.conftest import PACK
from tests.host.server import MODULE

USUAL, SMALL = (1920, 1080), (1366, 768)  # windows, px
READABLE = 0.6  # below that zoom the classic front end leaves out all text
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))


@pytest.mark.usefixtures("clean_log")
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_runs_from_the_template_list(browser, client, workflow, screenshots):
    browser.open()
    browser.open_template(MODULE, workflow.stem)
    assert browser.node_types() == sorted(node["type"] for node in json.loads(workflow.read_text())["nodes"])
    assert browser.missing_nodes() == []
    assert_readable(browser)
    assert browser.dialogs() == []
    entry = browser.run(client)
    browser.screenshot(screenshots / f"{workflow.stem}.png")
    assert browser.hidden_links() == []
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert browser.errors() == []
    assert browser.dialogs() == []


@pytest.mark.parametrize("is_new", [False, True], ids=["classic", "new"])
def test_every_workflow_opens_readable_on_a_small_screen(browser, is_new, screenshots):
    browser.open()
    browser.use_renderer(is_new)
    browser.resize(*SMALL)
    try:
        zooms, hidden = {}, {}
        for workflow in WORKFLOWS:
            browser.open_template(MODULE, workflow.stem)
            zooms[workflow.stem] = browser.zoom()
            hidden[workflow.stem] = [] if browser.is_experimental() else browser.hidden_links()
            browser.screenshot(screenshots / f"{workflow.stem}_small_{'new' if is_new else 'classic'}.png")
    finally:
        browser.resize(*USUAL)
        browser.use_renderer(False)
    assert {name: zoom for name, zoom in zooms.items() if zoom < READABLE} == {}
    assert {name: links for name, links in hidden.items() if links} == {}


def assert_readable(browser):
    """Text is shown on a usual screen, and nothing lies over anything in the sizes that this front end gives nodes."""
    assert browser.fit() >= READABLE
    assert browser.hidden_links() == []
    nodes, groups = browser.boxes()
    assert not any(overlap(*pair) for pair in [*combinations(nodes, 2), *combinations(groups, 2)])
    assert all(sum(contains(group, node) for group in groups) == 1 for node in nodes)


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def contains(group, box):
    return group[0] <= box[0] and group[1] <= box[1] and box[2] <= group[2] and box[3] <= group[3]
