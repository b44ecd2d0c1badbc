"""The host's own nodes that save models: of ours they would keep too little, and say so before they write anything."""

import pytest

from tests.host.test_server_inputs import find_refusals

LOAD = {"class_type": "AdaDiffSR_LoadCheckpoint", "inputs": {"checkpoint": "embedded model"}}
NODES = {
    "CheckpointSave": {"model": ["load", 0], "clip": ["load", 3], "vae": ["load", 1]},
    "ModelSave": {"model": ["load", 0]},
    "VAESave": {"vae": ["load", 1]},
}


@pytest.mark.parametrize("node", NODES)
def test_the_hosts_save_nodes_say_that_they_cannot(client, server, node):
    save = {"class_type": node, "inputs": {**NODES[node], "filename_prefix": "saved/ours"}}
    (sentence,) = find_refusals(client, {"load": LOAD, "save": save})
    assert sentence.startswith("ComfyUI's save nodes leave out the description that a")
    assert not [*(server.folder / "output").rglob("*.safetensors")]
