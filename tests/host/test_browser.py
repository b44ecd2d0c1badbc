"""Every workflow as an artist meets it: chosen from the template list, run unedited, looked at."""

import json
import os
from pathlib import Path

import pytest

from tests.host.conftest import PACK
from tests.host.server import MODULE

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory):
    """$ADADIFFSR_SCREENSHOTS, or a folder that pytest cleans up."""
    folder = Path(os.environ.get("ADADIFFSR_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.usefixtures("clean_log")
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_runs_from_the_template_list(browser, client, workflow, screenshots):
    browser.open()
    browser.open_template(MODULE, workflow.stem)
    assert browser.node_types() == sorted(node["type"] for node in json.loads(workflow.read_text())["nodes"])
    assert browser.missing_nodes() == []
    assert browser.dialogs() == []
    entry = browser.run(client)
    browser.screenshot(screenshots / f"{workflow.stem}.png")
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert browser.errors() == []
    assert browser.dialogs() == []
