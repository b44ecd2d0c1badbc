"""Damaged files of ours in the host: refused as the command line refuses them, and never opened in silence."""

import json
import os

import numpy as np
import pytest

from tests.fuzz.judge import try_case
from tests.fuzz.mutations import drop_tensors, join_file, split_file
from tests.fuzz.subjects import HostBundle

CASES = 40


@pytest.fixture
def bundle(pack, tmp_path):
    return HostBundle(tmp_path)


def refusal(pack, bundle):
    with pytest.raises(pack("adadiffsr_core.errors").CheckpointError) as refused:
        bundle.checkpoints.open_checkpoint(bundle.path)
    assert str(refused.value).isprintable()
    return str(refused.value)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "mmle.", "pfj."])
def test_a_missing_weight_is_never_what_memory_holds(prefix, pack, bundle):
    header, body = split_file(bundle.path.read_bytes())
    bundle.path.write_bytes(drop_tensors(header, body, [next(key for key in header if key.startswith(prefix))]))
    assert f"lacks 1 weights of {prefix}*" in refusal(pack, bundle)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "mmle.", "pfj."])
def test_weights_that_are_not_finite_are_refused(prefix, pack, bundle):
    header, body = split_file(bundle.path.read_bytes())
    start = next(entry["data_offsets"][0] for key, entry in header.items() if key.startswith(prefix))
    nan = np.array(np.nan, np.float16).tobytes()
    bundle.path.write_bytes(join_file(header, body[:start] + nan + body[start + 2 :]))
    assert "NaN or infinity" in refusal(pack, bundle)


@pytest.mark.parametrize(
    ("section", "changes", "sentence"),
    [
        ("unet", {"speed": 1}, "no setting speed"),
        ("other", {"a": 1}, "other, which is unknown"),
        ("unet", {"model_channels": 16_384}, "has shape"),
        ("unet", {"attention_levels": [0], "num_heads": 1}, "lacks"),
        ("mmle", {"latent_channels": 16}, "has shape"),
        ("schedule", {"target": "noise"}, "use one of picture, residual"),
        ("preview", {"factors": [[0, 0, 0]] * 5}, "colours of 5 channels for 4"),
    ],
    ids=str,
)
def test_configs_that_contradict_the_weights_are_refused(section, changes, sentence, pack, bundle):
    header, body = split_file(bundle.path.read_bytes())
    config = json.loads(header["__metadata__"]["config"])
    config.setdefault(section, {}).update(changes)
    header["__metadata__"]["config"] = json.dumps(config)
    bundle.path.write_bytes(join_file(header, body))
    assert sentence in refusal(pack, bundle)


@pytest.mark.parametrize(
    "dropped", [("format",), ("kind",), ("config",), ("format", "kind", "config", "facts")], ids=str
)
def test_files_without_their_description_are_not_opened_as_others(dropped, pack, bundle):
    header, body = split_file(bundle.path.read_bytes())
    header["__metadata__"] = {key: text for key, text in header["__metadata__"].items() if key not in dropped}
    bundle.path.write_bytes(join_file(header, body))
    assert str(bundle.path) in refusal(pack, bundle)


def test_an_autoencoder_of_ours_is_known_without_any_description(pack, bundle):
    header, body = split_file(bundle.path.read_bytes())
    del header["__metadata__"]
    small = [key for key in header if key.startswith(("mmle.", "pfj."))]
    bundle.path.write_bytes(drop_tensors(header, body, small))
    assert "not a weights file of this project" in refusal(pack, bundle)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=lambda make: make.__name__)
def test_what_is_no_file_is_refused_at_once(make, pack, bundle):
    bundle.path.unlink()
    make(bundle.path)
    assert "no ordinary file" in refusal(pack, bundle)


def test_the_host_opens_nothing_that_the_command_line_refuses(bundle, one_thread):
    sound = bundle.path.read_bytes()
    verdicts = [try_case(bundle, sound, 11, number) for number in range(CASES)]
    assert [(verdict.case, verdict.fault) for verdict in verdicts if verdict.fault] == []
    assert 0 < sum(verdict.refused for verdict in verdicts) < CASES
