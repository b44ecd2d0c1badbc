"""`adadiffsr train autoencoder` and `train ldm`."""

import json
import signal
import sys

import pytest
import torch
from PIL import Image

from adadiffsr_core.cli import main
from adadiffsr_core.commands.train import autoencoder as train_autoencoder
from adadiffsr_core.commands.train import common as train_common
from adadiffsr_core.data.dataset import split_photos
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import AutoencoderRecipe, LdmRecipe, read_recipe
from adadiffsr_core.training.tasks.autoencoder import AutoencoderTask
from adadiffsr_core.training.tasks.ldm import load_autoencoder
from tests.trained import AUTOENCODER, FlatTeacher, save_photos, state_of

NET = {
    "channels": [8, 8],
    "encoder_blocks": [1, 1],
    "decoder_blocks": [1, 1],
    "z_channels": 4,
    "padding": "zeros",
    "decoder_border": 0,
}


def test_shipped_recipes_are_whole():
    autoencoder = AutoencoderRecipe.from_dict(read_recipe("autoencoder", None, {}, {}))
    ldm = LdmRecipe.from_dict(read_recipe("ldm", None, {}, {}))
    assert autoencoder.net.z_channels == 16
    assert ldm.net.in_channels == 2 * ldm.net.out_channels
    assert ldm.data.size_px == 256
    assert AutoencoderRecipe.from_dict(json.loads(json.dumps(autoencoder.to_dict()))) == autoencoder
    assert LdmRecipe.from_dict(json.loads(json.dumps(ldm.to_dict()))) == ldm


def test_a_recipe_is_changed_by_file_and_then_by_words(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"loop": {"steps": 9, "seed": 5}, "holdout": 0.2}))
    recipe = AutoencoderRecipe.from_dict(
        read_recipe("autoencoder", tmp_path / "mine.json", {"steps": 11}, {"batch_size": 3})
    )
    shipped = AutoencoderRecipe.from_dict(read_recipe("autoencoder", None, {}, {}))
    assert (recipe.loop.steps, recipe.loop.seed, recipe.holdout, recipe.task.batch_size) == (11, 5, 0.2, 3)
    assert recipe.net == shipped.net
    assert recipe.loop.warmup_steps == shipped.loop.warmup_steps


def write_config(path, **sections):
    path.write_text(json.dumps(sections))
    return path


def autoencoder_words(folder, config, steps=2):
    return [
        "train", "autoencoder", str(folder / "data"), "--run", str(folder / "ae"), "--teacher", str(folder / "taesd"),
        "--config", str(config), "--steps", str(steps), "--threads", "1",
    ]  # fmt: skip


def ldm_words(folder, config, *more):
    return [
        "train", "ldm", str(folder / "data"), "--run", str(folder / "ldm"), "--autoencoder",
        str(folder / "ae" / "weights.safetensors"), "--config", str(config), "--threads", "1", *map(str, more),
    ]  # fmt: skip


AE_SECTIONS = {
    "loop": {"check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "net": NET,
    "task": {"crop_px": 48, "batch_size": 2},
    "holdout": 0.4,
}
LDM_SECTIONS = {
    "loop": {"check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1, "steps": 2},
    "net": {
        "in_channels": 8,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": [1, 1],
        "num_res_blocks": 1,
        "attention_levels": [],
    },
    "task": {"batch_size": 2},
    "data": {"size_px": 64, "min_scale": 1.0, "scales": None},
    "pairs": 16,
    "held_out": 6,
    "holdout": 0.4,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Photographs and a teacher; the autoencoder command's own teacher class is replaced by the fast one."""
    paths = save_photos(tmp_path / "data")
    split = split_photos(paths, 0.4)
    assert split.train
    assert split.held_out
    monkeypatch.setattr(train_autoencoder, "Taesd", FlatTeacher)
    return tmp_path


def test_both_networks_are_trained_by_command(project, capsys):
    ae_config = write_config(project / "ae.json", **AE_SECTIONS)
    assert main(autoencoder_words(project, ae_config)) == 0
    assert capsys.readouterr().out == f"{project / 'ae' / 'weights.safetensors'}: autoencoder after 2 steps\n"
    assert load_autoencoder(project / "ae" / "weights.safetensors").config == AUTOENCODER
    ldm_config = write_config(project / "ldm.json", **LDM_SECTIONS)
    assert main(ldm_words(project, ldm_config)) == 0
    assert load_checkpoint(project / "ldm" / "weights.safetensors", "ldm").facts["steps"] == 2
    assert {path.name for path in (project / "ldm").iterdir()} == {
        "held_out", "window", "losses.png", "origin.json", "photographs.json", "recipe.json", "sheet-0000002.png",
        "state.safetensors", "weights.safetensors",
    }  # fmt: skip
    small = project / "small.png"
    Image.new("RGB", (16, 16), (80, 120, 40)).save(small)
    words = ["upscale", str(small), "-o", str(project / "big.png"), "--steps", "2"]
    assert main([*words, "--model", str(project / "ldm" / "weights.safetensors")]) == 0

    # prolonged; then refused, with another set of photographs, another autoencoder, or other networks
    assert main(ldm_words(project, ldm_config, "--steps", 3)) == 0
    assert state_of(project / "ldm")[1] == 3
    other_net = write_config(
        project / "other.json", **LDM_SECTIONS | {"net": {**LDM_SECTIONS["net"], "num_res_blocks": 2}}
    )
    other_data = write_config(project / "data.json", **LDM_SECTIONS | {"data": {"size_px": 64, "mild_prob": 0.9}})
    for words, sentence in (
        (ldm_words(project, other_net), "was made with other networks"),
        (ldm_words(project, other_data), "was made with other settings"),
        (ldm_words(project, ldm_config, "--seed", 9), "was made with other settings"),
    ):
        assert refusal(words, capsys).count(sentence) == 1
    assert main(autoencoder_words(project, ae_config, steps=3)) == 0
    assert "was made with other autoencoder" in refusal(ldm_words(project, ldm_config), capsys)
    Image.new("RGB", (512, 512)).save(project / "data" / "new.png")
    assert "was made with other photographs" in refusal(autoencoder_words(project, ae_config), capsys)
    assert "was made with other photographs" in refusal(ldm_words(project, ldm_config), capsys)


def refusal(words, capsys):
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("adadiffsr: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_bad_training_input_gets_one_sentence(project, capsys):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    words = autoencoder_words(project, config)

    def changed(**sections):
        name = f"bad{len(list(project.glob('bad*.json')))}.json"
        return autoencoder_words(project, write_config(project / name, **AE_SECTIONS | sections))

    (project / "void").mkdir()
    (project / "nonsense.json").write_text("{")
    (project / "list.json").write_text("[]")
    for bad, sentence in (
        (changed(loop={"speed": 1}), "LoopConfig has no setting speed"),
        (changed(extra={}), "AutoencoderRecipe has no setting extra"),
        (changed(loop=3), "loop must be a section"),
        (changed(task={"crop_px": 100}), "crop_px must be a multiple of 16 up to 512, got 100"),
        (changed(task={"crop_px": 32}), "use more than 32"),
        (changed(task={"crop_px": 1024}), "crop_px must be a multiple of 16 up to 512, got 1024"),
        (changed(net={**NET, "patch": 2}), "1/8 of the size"),
        (changed(holdout=0.0001), "0 are held out"),
        (changed(holdout=2), "holdout must be a share"),
        ([*words, "--learning-rate", "-1"], "learning_rate above 0"),
        ([*words, "--batch-size", "0"], "batch_size"),
        ([*words, "--batch-size", str(2**31)], "batch_size must be at most 16384, got 2147483648"),
        ([*ldm_words(project, config), "--workers", str(-(2**63))], "is no number of processes from 0 to"),
        ([*ldm_words(project, config), "--workers", "100000"], "is no number of processes from 0 to"),
        ([*words, "--threads", "0"], "--threads must be from 1 to 1024"),
        (autoencoder_words(project, project / "absent.json"), "absent.json cannot be read"),
        (autoencoder_words(project, project / "nonsense.json"), "nonsense.json is not JSON"),
        (autoencoder_words(project, project / "list.json"), "must hold sections"),
        (["train", "autoencoder", str(project / "void"), *words[3:]], "no image"),
        (["train", "autoencoder", str(project / "gone"), *words[3:]], "is not a folder"),
        (["train", "unet"], "invalid choice"),
        (ldm_words(project, write_config(project / "ldm.json", **LDM_SECTIONS)), "weights file"),
        (changed(loop={"steps": "many", "seed": "x"}, task={"crop_px": "wide"}), "a value of the wrong kind"),
    ):
        assert sentence in refusal(bad, capsys), sentence
    assert not (project / "ae" / "state.safetensors").exists()


def test_damaged_files_are_left_out_and_change_no_bit(project, capsys):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    words = autoencoder_words(project, config)
    assert main(words) == 0
    alone = load_checkpoint(project / "ae" / "weights.safetensors").tensors
    (project / "data" / "page.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n{} loop\n")
    (project / "data" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    capsys.readouterr()
    assert main(autoencoder_words(project, config, steps=3)) == 0  # the same photographs, to the run
    told = capsys.readouterr().err.splitlines()
    for name in ("page.png", "cut.jpg"):
        assert [line for line in told if name in line and line.endswith("it is left out")]
    words[words.index(str(project / "ae"))] = str(project / "again")
    assert main(words) == 0
    again = load_checkpoint(project / "again" / "weights.safetensors").tensors
    assert all(torch.equal(again[key], alone[key]) for key in alone)
    for path in (project / "data").rglob("*.*"):
        path.write_bytes(b"")
    assert "photographs can be read" in refusal(words, capsys)


def test_a_run_begins_with_given_weights_and_goes_on_with_its_own(project, capsys):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    assert main(autoencoder_words(project, config)) == 0
    first = project / "ae" / "weights.safetensors"
    frozen = write_config(
        project / "frozen.json", **AE_SECTIONS | {"task": {**AE_SECTIONS["task"], "freeze_encoder": True}}
    )
    words = [*autoencoder_words(project, frozen), "--init", str(first)]
    words[words.index(str(project / "ae"))] = str(project / "decoder")
    assert main(words) == 0
    begun, ended = (load_checkpoint(path).tensors for path in (first, project / "decoder" / "weights.safetensors"))
    moved = {key.split(".")[1] for key in begun if not torch.equal(begun[key], ended[key])}
    assert moved == {"decoder"}
    assert main(words) == 0  # nothing left to do, and nothing begun again
    assert load_state(project / "decoder" / "state.safetensors")[1]["step"] == 2
    again = load_checkpoint(project / "decoder" / "weights.safetensors").tensors
    assert all(torch.equal(again[key], ended[key]) for key in ended)
    words[words.index(str(first))] = str(project / "absent.safetensors")
    assert "absent.safetensors does not exist" in refusal(words, capsys)


def test_ctrl_c_in_training_is_130_and_goes_on_later(project, capsys, monkeypatch):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    turns = AutoencoderTask.turns

    def interrupt(self, step):
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return turns(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "turns", interrupt)
        assert main(autoencoder_words(project, config, steps=4)) == 130
    assert "adadiffsr: stopped" in capsys.readouterr().err
    assert state_of(project / "ae")[1] == 2
    assert main(autoencoder_words(project, config, steps=4)) == 0
    assert state_of(project / "ae")[1] == 4


def test_a_missing_training_extra_is_named(project, capsys, monkeypatch):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    find = train_common.importlib.util.find_spec
    monkeypatch.setattr(
        train_common.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    assert "training needs matplotlib: pip install 'adadiffsr[train]'" in refusal(
        autoencoder_words(project, config), capsys
    )


@pytest.mark.parametrize(
    "task", [{"perceptual_weight": 0.1}, {"adversarial_weight": 0.1, "discriminator": "features"}], ids=str
)
def test_what_looks_at_pictures_is_missed_before_any_pair_is_made(project, capsys, monkeypatch, task):
    """Making them takes minutes to hours."""
    assert main(autoencoder_words(project, write_config(project / "ae.json", **AE_SECTIONS))) == 0
    monkeypatch.setitem(sys.modules, "stlpips_pytorch", None)
    config = write_config(project / "ldm.json", **{**LDM_SECTIONS, "task": {"batch_size": 2, **task}})
    assert "st_lpips needs packages that are not installed" in refusal(ldm_words(project, config), capsys)
    assert not [path for path in (project / "ldm").iterdir() if path.is_dir()]
