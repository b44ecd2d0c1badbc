"""Workflows as they were before the bounded rule, replayed: the canvas means what the prompt meant, picture and all.

`saved` holds two shipped workflows of that time, as the front end and as a program had them. What their model's numbers
were is another matter: the embedded model is trained anew from time to time.
"""

import json

import numpy as np
import pytest

from tests.host.pack import PACK

SAVED = PACK / "tests" / "host" / "saved"
NAMES = ["upscale_4x", "compute_mask"]
# Inputs that came since, and what a graph meant that lacks them.
SINCE = {"rule": "paper", "visit_last": False, "mask_means": "levels", "own_networks": False}
IDLE = {"likeness", "budget"}  # of the other rule


def read(name):
    return json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("clean_log")
@pytest.mark.parametrize("name", NAMES)
def test_a_canvas_of_then_is_the_prompt_of_then(browser, client, name):
    before = read(f"{name}_api")
    browser.open()
    prompt = browser.load(read(name))
    assert {key: node["class_type"] for key, node in prompt.items()} == {
        key: node["class_type"] for key, node in before.items()
    }
    for key, node in prompt.items():
        now, then = node["inputs"], before[key]["inputs"]
        assert {input_: now[input_] for input_ in then} == then
        if node["class_type"].startswith("AdaDiffSR_"):
            added = {input_: value for input_, value in now.items() if input_ not in then and input_ not in IDLE}
            assert added.items() <= SINCE.items(), node["class_type"]
    pictures = [client.pictures(client.run(each, timeout=300)) for each in (before, prompt)]
    assert pictures[0].keys() == pictures[1].keys() != set()
    for key, drawn in pictures[0].items():
        assert all(np.array_equal(one, other) for one, other in zip(drawn, pictures[1][key], strict=True)), key
