"""Weights files: what goes in comes out, and whatever is wrong is said in one sentence about one file."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adadiffsr_core.errors import CheckpointError
from adadiffsr_core.models.checkpoint import FORMAT, KINDS, Checkpoint, load_checkpoint, save_checkpoint

NET = "net."


def make_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))  # a BatchNorm counts in int64


def make_tensors():
    generator = torch.Generator().manual_seed(0)
    state = make_net().state_dict()
    return {
        NET + key: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value + 3
        for key, value in state.items()
    }


def write(path, tensors=None, kind="ldm", **changes):
    """A file as ours, or nearly, past all the checks of `save_checkpoint`."""
    metadata = {"format": FORMAT, "kind": kind, "config": "{}", "facts": "{}"} | changes
    save_file(tensors or make_tensors(), path, {key: value for key, value in metadata.items() if value is not None})
    return path


def refusal(path, *kinds):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, *kinds)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_goes_in_comes_out(kind, dtype, tmp_path):
    path = tmp_path / "new" / "weights.safetensors"
    config, facts = {"unet": {"channel_mult": [1, 2]}}, {"steps": 7, "command": "train"}
    save_checkpoint(Checkpoint(kind, config, make_tensors(), facts), path, dtype)
    loaded = load_checkpoint(path, "ldm", kind)
    assert (loaded.kind, loaded.config, loaded.facts, loaded.path) == (kind, config, facts, path)
    assert loaded.section("unet") == {"channel_mult": [1, 2]}
    assert loaded.tensors.keys() == make_tensors().keys()
    for key, value in make_tensors().items():
        assert torch.equal(loaded.tensors[key], value.to(dtype) if value.is_floating_point() else value)
    assert [file.name for file in path.parent.iterdir()] == ["weights.safetensors"]


def test_weights_arrive_in_the_network(tmp_path):
    path, net = tmp_path / "weights.safetensors", make_net()
    extra = {"other.weight": torch.zeros(1)}  # another network in the same file
    save_checkpoint(Checkpoint("bundle", {}, make_tensors() | extra), path, torch.float32)
    load_checkpoint(path).load_into(net, NET)
    for key, value in net.state_dict().items():
        assert torch.equal(value, make_tensors()[NET + key])


def test_any_kind_will_do_if_none_is_named(tmp_path):
    assert load_checkpoint(write(tmp_path / "a.safetensors", kind="pfj")).kind == "pfj"


def spoil(tensors, how):
    key = NET + "0.weight"
    if how == "missing":
        del tensors[key]
    elif how == "unknown":
        tensors[NET + "2.weight"] = torch.zeros(1)
    elif how == "shape":
        tensors[key] = tensors[key][:, :2].contiguous()
    else:
        tensors[key][0, 0, 0, 0] = float(how)
    return tensors


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("missing", r"lacks 1 weights of net\.\*, first 0\.weight"),
        ("unknown", r"has 1 unknown weights in net\.\*, first 2\.weight"),
        ("shape", r"net\.0\.weight has shape \(4, 2, 3, 3\), its config says \(4, 3, 3, 3\)"),
        ("nan", r"net\.0\.weight holds NaN or infinity"),
        ("inf", r"net\.0\.weight holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(how, sentence, tmp_path):
    path, net = write(tmp_path / "bad.safetensors", spoil(make_tensors(), how)), make_net()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_checkpoint(path).load_into(net, NET)
    assert str(path) in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.safetensors")
    assert "does not exist" in refusal(tmp_path)


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_files_are_refused(length, tmp_path):
    path = write(tmp_path / "cut.safetensors")
    path.write_bytes(path.read_bytes()[:length])
    assert "damaged" in refusal(path)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


def test_a_pickle_is_never_run(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"weight": Bomb()}))
    assert "not a safetensors file" in refusal(path)
    torch.save({"weight": torch.zeros(2)}, path)
    assert "not a safetensors file" in refusal(path)


@pytest.mark.parametrize("stored", [None, "adadiffsr/2", "pt"])
def test_other_formats_are_refused(stored, tmp_path):
    assert "not a weights file of this project" in refusal(write(tmp_path / "a.safetensors", format=stored))


def test_files_without_metadata_are_refused(tmp_path):
    path = tmp_path / "plain.safetensors"
    save_file(make_tensors(), path)
    assert "not a weights file of this project" in refusal(path)


@pytest.mark.parametrize(("stored", "name"), [("mmle", "mmle"), ("lora", "lora"), (None, "nothing known")])
def test_other_kinds_are_refused(stored, name, tmp_path):
    assert f"holds {name}, not ldm or bundle" in refusal(
        write(tmp_path / "a.safetensors", kind=stored), "ldm", "bundle"
    )


def test_unknown_kinds_are_refused_even_if_none_is_named(tmp_path):
    assert "holds lora, not autoencoder or ldm" in refusal(write(tmp_path / "a.safetensors", kind="lora"))


@pytest.mark.parametrize("config", [None, "", "{", "[1]", "3", "null", '"unet"'])
def test_unreadable_configs_are_refused(config, tmp_path):
    assert "no readable config" in refusal(write(tmp_path / "a.safetensors", config=config))


def test_a_section_that_is_not_there_is_named(tmp_path):
    checkpoint = load_checkpoint(write(tmp_path / "a.safetensors", config=json.dumps({"mmle": {}})))
    with pytest.raises(CheckpointError, match="ldm file without unet; it has mmle"):
        checkpoint.section("unet")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_cannot_be_stored_are_refused_and_nothing_is_written(value, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_checkpoint(Checkpoint("ldm", {}, {"a": torch.ones(1)}), path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"a is not finite as torch\.float16"):
        save_checkpoint(Checkpoint("ldm", {}, {"a": torch.tensor([value])}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_checkpoint(Checkpoint("ldm", {}, {"a": torch.ones(1)}), path)
    before = path.read_bytes()

    def fill_the_disk(tensors, filename, metadata):
        filename.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("adadiffsr_core.models.checkpoint.save_file", fill_the_disk)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(Checkpoint("ldm", {}, {"a": torch.zeros(1)}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_kinds_are_not_written(tmp_path):
    with pytest.raises(CheckpointError, match="lora"):
        save_checkpoint(Checkpoint("lora", {}, {"a": torch.ones(1)}), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
