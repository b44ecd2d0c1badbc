"""Files that contradict themselves, or are none: refused by their headers, before anything is built or read."""

import json
import os
import resource
import struct
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from adadiffsr_core.data.latent_pairs import LatentPairs, read_done, write_done
from adadiffsr_core.data.origin import claim_cache
from adadiffsr_core.data.photo_bank import PhotoBank
from adadiffsr_core.errors import AdaDiffSRError, CheckpointError, ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_mmle, load_pfj
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.training.loop.loop import Run
from adadiffsr_core.training.recipe import read_recipe
from adadiffsr_core.training.tasks.ldm import load_autoencoder
from tests.fuzz.mutations import drop_tensors, join_file, split_file
from tests.fuzz.subjects import Bundle, State
from tests.trained import make_bank, make_pairs


@pytest.fixture
def bundle(tmp_path):
    return Bundle(tmp_path).path


def describe(path, section, **changes):
    """Change numbers of a config in a file that stays whole otherwise."""
    header, body = split_file(path.read_bytes())
    config = json.loads(header["__metadata__"]["config"])
    config.setdefault(section, {}).update(changes)
    header["__metadata__"]["config"] = json.dumps(config)
    path.write_bytes(join_file(header, body))
    return path


def refusal(read, *args):
    """The one sentence, said soon and at little memory."""
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(AdaDiffSRError) as refused:
        read(*args)
    assert time.process_time() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 300 * 1024
    assert str(refused.value).isprintable()
    return str(refused.value)


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("unet", {"model_channels": 16_384}),
        ("unet", {"channel_mult": [64, 64]}),
        ("unet", {"num_res_blocks": 10**9}),
        ("unet", {"channel_mult": [1] * 10**5}),
        ("unet", {"model_channels": 32.0}),
        ("unet", {"num_res_blocks": True}),
        ("unet", {"context_dim": 10**30}),
        ("autoencoder", {"encoder_blocks": [10**9, 1]}),
        ("autoencoder", {"channels": [16_384, 16_384]}),
        ("autoencoder", {"patch": 64}),
        ("mmle", {"hidden": 16_384}),
        ("mmle", {"widths": [8] * 13}),
        ("mmle", {"worst": [float("nan")] * 6}),
        ("pfj", {"width": 16_384}),
        ("pfj", {"gain_scale": 0}),
        ("schedule", {"prediction": "x"}),
        ("schedule", {"speed": 1}),
        ("preview", {"factors": [[0, 0, 0]] * 5}),
        ("other", {"a": 1}),
    ],
    ids=str,
)
def test_configs_that_the_weights_contradict_are_refused_at_once(section, changes, bundle):
    describe(bundle, section, **changes)
    for read in (load_model, load_mmle, load_pfj, load_autoencoder):
        assert str(bundle) in refusal(read, bundle)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "mmle.", "pfj."])
def test_networks_lack_nothing_and_have_nothing_over(prefix, bundle):
    header, body = split_file(bundle.read_bytes())
    keys = [key for key in header if key.startswith(prefix)]
    bundle.write_bytes(drop_tensors(header, body, keys[:1]))
    assert "lacks" in refusal(load_model, bundle)
    bundle.write_bytes(join_file(header, body))
    config = json.loads(header["__metadata__"]["config"])
    del config[{"model.diffusion_model.": "unet", "first_stage_model.": "autoencoder"}.get(prefix, prefix[:-1])]
    header["__metadata__"]["config"] = json.dumps(config)
    bundle.write_bytes(join_file(header, body))
    assert "weights of no network in its config" in refusal(load_model, bundle)


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_odd_types_are_refused(dtype, bundle):
    header, _ = split_file(bundle.read_bytes())
    tensors = load_file(bundle)
    key = next(key for key in tensors if key.startswith("pfj."))
    save_file(tensors | {key: torch.zeros(tensors[key].shape).to(dtype)}, bundle, header["__metadata__"])
    assert "not as weights are" in refusal(load_model, bundle)


def test_weights_that_overflow_the_type_they_run_in_are_refused(bundle):
    header, _ = split_file(bundle.read_bytes())
    tensors = {key: value.float() for key, value in load_file(bundle).items()}
    next(value for key, value in tensors.items() if key.startswith("pfj.")).fill_(1e6)
    save_file(tensors, bundle, header["__metadata__"])
    load_model(bundle)
    with pytest.raises(CheckpointError, match="NaN or infinity"):
        load_model(bundle, dtype=torch.float16)


def make_sparse(path):
    with path.open("wb") as file:
        file.truncate(2**40)


def make_sparse_tensor(path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**36], "data_offsets": [0, 2**38]}}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2**38)


ODD_FILES = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(b"\x05\x00"),
    "long header": lambda path: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"),
    "spaces": lambda path: path.write_bytes(struct.pack("<Q", 2**27) + b" " * 2**27),
    "lists": lambda path: path.write_bytes(struct.pack("<Q", 2**24) + b"[]," * (2**24 // 3) + b" "),
    "deep": lambda path: path.write_bytes(struct.pack("<Q", 10**6) + b"[" * 10**6),
    "sparse": make_sparse,
    "sparse tensor": make_sparse_tensor,
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "nowhere": lambda path: path.symlink_to("/nowhere"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_no_weights_file_is_refused(kind, tmp_path):
    path = tmp_path / "odd.safetensors"
    ODD_FILES[kind](path)
    for read in (load_checkpoint, load_model, load_mmle):
        assert str(path) in refusal(read, path)


# --- Training states and run folders.


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return State(tmp_path_factory.mktemp("state"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", -1), ("step", True), ("step", 1.5), ("step", None), ("step", "2"), ("step", 10**30), ("step", 1),
        ("seconds", -1.0), ("seconds", "x"), ("seconds", float("nan")), ("history", {}), ("history", [3]),
        ("history", [{"loss": 1.0}]), ("history", [{"step": 1, "loss": "x"}]), ("task", "mmle"), ("task", []),
        ("tensors", 3), ("config", 3),
    ],
    ids=str,
)  # fmt: skip
def test_states_that_say_nonsense_are_refused_and_stay(name, value, state):
    sound = state.path.read_bytes()
    header, body = split_file(sound)
    facts = json.loads(header["__metadata__"]["facts"]) | {name: value}
    if value == 1:
        assert max(row["step"] for row in facts["history"]) == 2  # of which no run at step 1 can know
    header["__metadata__"]["facts"] = json.dumps(facts)
    state.path.write_bytes(join_file(header, body))
    refusal(state.read)
    state.path.write_bytes(sound)


@pytest.mark.parametrize("start", ["network.", "average.", "optimiser."])
@pytest.mark.parametrize("how", ["missing", "unknown", "shape", "nan", "type"])
def test_states_with_damaged_tensors_are_refused_and_stay(start, how, state):
    sound = state.path.read_bytes()
    header, _ = split_file(sound)
    tensors = load_file(state.path)
    key = next(key for key, value in tensors.items() if key.startswith(start) and value.ndim > 1)
    if how == "missing":
        del tensors[key]
    elif how == "unknown":
        tensors[key + "x"] = torch.zeros(1)
    else:
        odd = {"shape": tensors[key][:1].clone(), "type": tensors[key].half(), "nan": tensors[key] * float("nan")}
        tensors[key] = odd[how]
    save_file(tensors, state.path, header["__metadata__"])
    refusal(state.read)
    state.path.write_bytes(sound)
    state.read()


def test_a_state_of_losses_that_were_not_finite_is_read(state, tmp_path):
    run = Run(state.task, state.config, tmp_path)
    run.step, run.history = 2, [{"step": 1, "loss": float("nan"), "other": 0.5}]
    run.save()
    assert Run(state.task, state.config, tmp_path).history == [{"step": 1, "other": 0.5}]


@pytest.mark.parametrize(
    "note",
    ["", "{", "[]", "3", "null", '{"done": -1}', '{"done": 9}', '{"done": 1.0}', '{"done": true}', "[" * 10**5, "\x00"],
)
def test_notes_of_how_much_is_done_are_counts(note, tmp_path):
    make_pairs(tmp_path / "pairs")
    (tmp_path / "pairs" / "progress.json").write_text(note)
    assert "progress.json" in refusal(LatentPairs, tmp_path / "pairs")
    write_done(tmp_path / "pairs", 8)
    assert read_done(tmp_path / "pairs", 8) == 8


@pytest.mark.parametrize("note", ["", "{", "[]", "NaN", '{"a": 1, "a": 2}'])
def test_damaged_origins_are_refused_and_stay(note, tmp_path):
    (tmp_path / "origin.json").write_text(note)
    assert "origin.json" in refusal(claim_cache, tmp_path, {"a": 1})
    assert (tmp_path / "origin.json").read_text() == note


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:100], lambda data: data[:-1], lambda data: b"", lambda data: data.replace(b"<f2", b"|O8")],
)
def test_damaged_arrays_are_refused(damage, tmp_path):
    make_pairs(tmp_path / "pairs")
    path = tmp_path / "pairs" / "gt.npy"
    path.write_bytes(damage(path.read_bytes()))
    assert "gt.npy" in refusal(LatentPairs, tmp_path / "pairs")


def test_arrays_with_nan_are_refused(tmp_path):
    pairs = make_pairs(tmp_path / "pairs")
    data = bytearray((tmp_path / "pairs" / "lq.npy").read_bytes())
    data[128:130] = b"\x00\x7e"
    (tmp_path / "pairs" / "lq.npy").write_bytes(data)
    with pytest.raises(ConfigError, match="NaN"):
        LatentPairs(tmp_path / "pairs").take(range(pairs.count))


def test_damaged_photographs_are_refused(tmp_path):
    path, bank = tmp_path / "bank.safetensors", make_bank(2)
    for sides in (
        torch.zeros(2, 2, dtype=torch.int64),
        torch.full((2, 2), 10**9),
        torch.full((1, 2), 9),
        torch.ones(2, 2),
    ):
        save_file({"pieces": bank.pieces, "sides": sides}, path, {"photographs": ""})
        assert PhotoBank._load(path, "", Processor()) is None


@pytest.mark.parametrize(
    "text", ["{", "NaN", '{"loop": {"seed": Infinity}}', "[" * 10**5, "9" * 5000, '{"a": 1, "a": 2}']
)
def test_damaged_recipes_are_refused(text, tmp_path):
    (tmp_path / "recipe.json").write_text(text)
    assert "recipe.json" in refusal(read_recipe, "ldm", tmp_path / "recipe.json", {}, {})
