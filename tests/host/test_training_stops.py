"""Training in the host that is cancelled or finds its disk full: what is whole is kept, and the next run goes on."""

import contextlib
import re
import shutil
import subprocess
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from adadiffsr_core.training.loop.state import load_state
from tests.host.api import find_messages
from tests.host.graphs import build_upscale
from tests.host.training import build_prompt, save_photos

pytestmark = pytest.mark.usefixtures("extras")
STAGES = {
    "walking": ("adadiffsr_core.data.dataset", "PairDataset", "__getitem__", 11),
    "measuring": ("adadiffsr_core.training.walks.targets", None, "_measure_walk", 4),
    "learning": ("adadiffsr_core.training.tasks.mmle", "MmleTask", "turns", 4),
    "difficulty": ("adadiffsr_core.training.walks.difficulty", None, "_walk_batch", 2),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_run_goes_on_to_the_same_bits(pack, host, train, places, monkeypatch, stage):
    management, (module, owner, name, when) = host("model_management"), STAGES[stage]
    train(file_name="whole", walks=10)
    owner = getattr(pack(module), owner) if owner else pack(module)
    calls, original = [], getattr(owner, name)

    def press_cancel(*args):
        calls.append(args)
        if len(calls) == when:
            management.interrupt_current_processing()
        return original(*args)

    monkeypatch.setattr(owner, name, press_cancel)
    with pytest.raises(management.InterruptProcessingException):
        train(walks=10)
    assert not management.processing_interrupted()
    assert not places.file.exists()
    assert (places.run / "state.safetensors").exists() == (stage in ("learning", "difficulty"))
    stopped = len(calls)
    train(walks=10)
    # Nothing that was whole is made again; difficulty is taught at a stretch, in three batches of 10 and 2 tiles, of
    # which every other one is a pair's.
    again = {"walking": 12 - 10 + 6, "measuring": 12 - 4, "learning": 6 - 4, "difficulty": 3}[stage]
    assert len(calls) - stopped == again
    for file in ("state.safetensors", "walks/denoised.npy", "walks/targets/psnr-lq/values.npy"):
        assert same(places.run / file, places.run.with_name("whole") / file), file
    assert same(places.file, places.models / "whole.safetensors")


def same(first, second):
    if first.suffix != ".safetensors":
        return first.read_bytes() == second.read_bytes()
    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_cancel_button_and_run_again(server, client):
    save_photos(server.folder / "input" / "photos")
    prompt = build_prompt(steps=150)
    with client.listen() as recorder:
        prompt_id = client.post(prompt, recorder.client_id)
        recorder.until(lambda message: message["type"] == "progress" and message["data"]["value"] > 30)
        client.interrupt()
        entry = client.wait(prompt_id)
    assert find_messages(entry, "execution_interrupted")
    assert find_messages(entry, "execution_error") == []
    state = server.folder / "user" / "__adadiffsr" / "training" / "learnt" / "state.safetensors"
    assert 10 < load_state(state)[1]["step"] < 150
    entry = client.run(prompt)
    (report,) = entry["outputs"]["train"]["text"]
    assert "150 steps on 4 walks" in report
    assert client.pictures(entry)["chart"][0].shape[-1] == 3
    loader = client.object_info()["AdaDiffSR_LoadMMLE"]["input"]["required"]["file"]
    assert "learnt.safetensors" in str(loader)
    refused = client.run(build_prompt(file_name="none", image_folder="absent"))
    (error,) = find_messages(refused, "execution_error")
    assert "image_folder 'absent' is no folder of photographs" in error["exception_message"]


@contextmanager
def small_disk(folder, size):
    """A disk of its own at a folder, where the system lets us make one."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("no small disk can be made here: mount needs rights that this user does not have")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="there is no mount here")
@pytest.mark.parametrize(("size", "walks", "is_filled_later"), [("300k", 4000, False), ("64m", 4, True)])
def test_a_full_disk_is_a_sentence_and_the_next_prompt_runs(server, client, size, walks, is_filled_later):
    save_photos(server.folder / "input" / "photos")
    folder = server.folder / "user" / "__adadiffsr"
    prompt = build_prompt(steps=60, walks=walks, file_name=f"full_{size}")
    with small_disk(folder, size), client.listen() as recorder:
        prompt_id = client.post(prompt, recorder.client_id)
        if is_filled_later:
            recorder.until(lambda message: message["type"] == "progress" and message["data"]["value"] > 20)
            with contextlib.suppress(OSError), (folder / "filler").open("wb") as filler:
                while True:
                    filler.write(bytes(2**16))
        (error,) = find_messages(client.wait(prompt_id), "execution_error")
        sentence = error["exception_message"].strip()
        assert "\n" not in sentence
        assert re.search("disk|space|full|room", sentence)
        assert client.run(build_upscale())["outputs"]
        if is_filled_later:
            (folder / "filler").unlink()
            assert "60 steps on 4 walks" in client.run(prompt)["outputs"]["train"]["text"][0]
