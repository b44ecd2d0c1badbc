"""Whatever text a prompt holds, what our nodes say of it can be written out by the host."""

import re
import traceback

import pytest
import torch

from tests.host.tiny import draw
from tests.host.training import SETTINGS, build_prompt

HOSTILE = {
    "half a character": "a\ud800b",
    "an undecodable byte": "\udcff",
    "NUL": "a\0b",
    "endless": "a" * 10_000,
    "endless list": "a," * 5_000,
    "turned": "\u202egpj.\u2066a\u061c",
    "control codes": "\x1b[31m\r\n\x85",
    "elsewhere": "../../../../etc",
}
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
NODES = (
    "LoadCheckpoint", "LoadMmle", "LoadPfj", "RegionAwareKSampler", "RegionAwareSampler", "ColourMatch",
    "ImageQuality", "Compare", "ExamplePhoto", "TrainMmle",
)  # fmt: skip


@pytest.fixture(scope="module")
def wires(pack):
    """What the inputs that are no widgets get, by their type."""
    with torch.inference_mode():
        model, vae, null_prompt, *_ = pack("nodes.loaders").LoadCheckpoint.execute("embedded model").args
    return {
        "MODEL": model, "VAE": vae, "CONDITIONING": null_prompt, "IMAGE": torch.rand(1, 64, 64, 3),
        "LATENT": {"samples": draw(1, 4, 8, 8)},
    }  # fmt: skip


def fill(node, wires):
    """Every required input of a node, as the front end would send it."""
    filled = dict(SETTINGS) if node.__name__ == "TrainMmle" else {}
    for each in node.define_schema().inputs:
        if each.io_type in wires and not each.optional:
            filled[each.id] = wires[each.io_type]
        elif (value := getattr(each, "default", None)) is not None:
            filled.setdefault(each.id, value)
        elif getattr(each, "options", None):
            filled.setdefault(each.id, each.options[0])
    return filled


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("name", NODES)
def test_every_message_can_be_written_out(pack, wires, name, text):
    node = next(node for node in pack("nodes").NODES if node.__name__ == name)
    names = [each.id for each in node.define_schema().inputs if each.io_type in ("STRING", "COMBO")]
    assert names
    for hostile in names:
        with torch.inference_mode():
            try:
                node.execute(**{**fill(node, wires), hostile: text})
            except pack("adadiffsr_core.errors").AdaDiffSRError as error:
                message, log = str(error), "".join(traceback.format_exception(error))
            else:
                assert hostile.startswith("caption"), hostile
                continue
        assert not UNSEEN.search(message), message
        assert len(message) < 500, message
        log.encode("utf-8")  # which is how the host keeps it


def test_the_host_goes_on_after_a_text_that_cannot_be_written(client):
    for text in HOSTILE.values():
        assert client.run(build_prompt(image_folder=text))["status"]["status_str"] == "error"
