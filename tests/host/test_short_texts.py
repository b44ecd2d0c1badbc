"""Links that are looked at as text say what they carry, and not every number of it."""

import json

import pytest

from tests.host.graphs import build_upscale

MOST = 150  # characters


@pytest.fixture(scope="module")
def shown(client):
    """What the host's Preview as Text shows of each link, by its place in the graph."""
    links = {"tiles": ["tiles", 0], "mmle": ["model", 4], "pfj": ["model", 5], "report": ["report", 0]}
    previews = {
        f"text_{name}": {"class_type": "PreviewAny", "inputs": {"source": link}} for name, link in links.items()
    }
    entry = client.run({**build_upscale(), **previews})
    return {name: entry["outputs"][f"text_{name}"]["text"][0] for name in links}


@pytest.mark.parametrize(("link", "words"), [("tiles", "px"), ("mmle", "Mmle("), ("pfj", "Pfj(")])
def test_a_link_of_ours_is_told_in_short(shown, link, words):
    assert words in shown[link]
    assert len(shown[link]) < MOST
    assert "tensor" not in shown[link].lower()


def test_the_report_is_json_without_a_line_for_each_number(shown):
    report = json.loads(shown["report"])
    assert report["tiles"]
    assert "\n" not in shown["report"]
