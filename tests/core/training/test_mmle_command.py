"""`adadiffsr train mmle`: a regressor trained, gone on with, and taught what it tells of difficulty."""

import json

import pytest
import torch

from adadiffsr_core.cli import main
from adadiffsr_core.commands.train import mmle as train_mmle
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint, save_checkpoint
from adadiffsr_core.models.networks import load_mmle
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import MmleRecipe, read_recipe
from adadiffsr_core.training.walks import teaching
from tests.oracles import to_checkpoint
from tests.walked import METRICS, save_photos

SECTIONS = {
    "loop": {"steps": 2, "check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "net": {"widths": [8], "hidden": 4},
    "task": {"batch_size": 2},
    "data": {"size_px": 64, "min_scale": 1.0},
    "walk": {"visits": 7, "batch_size": 2},
    "walks": 3,
    "held_out": 3,
    "ends": 2,
    "holdout": 0.4,
}


@pytest.fixture
def project(tmp_path, model, monkeypatch):
    save_photos(tmp_path / "data", count=6)
    save_checkpoint(to_checkpoint(model.unet, model.autoencoder), tmp_path / "model.safetensors")
    (tmp_path / "mmle.json").write_text(json.dumps(SECTIONS))
    monkeypatch.setattr(train_mmle, "create_metric", lambda name, device, weights_folder: METRICS[name])
    return tmp_path


def words(folder, *more):
    return [
        "train", "mmle", str(folder / "data"), "--run", str(folder / "run"), "--config", str(folder / "mmle.json"),
        "--model", str(folder / "model.safetensors"), "--metrics", "brisque,psnr", "--threads", "1", *map(str, more),
    ]  # fmt: skip


def test_a_regressor_is_trained_by_command_and_goes_on(project, capsys):
    assert main(words(project)) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{project / 'run' / 'weights.safetensors'}: mmle after 2 steps",
        f"{project / 'run' / 'taught.safetensors'}: with what it tells of difficulty",
    ]
    checkpoint = load_checkpoint(project / "run" / "weights.safetensors", "mmle")
    assert checkpoint.facts["walks"] == 3
    assert checkpoint.facts["reference"] == "lq"
    assert "class_agreement" in checkpoint.facts["held_out"]
    assert load_mmle(project / "run" / "weights.safetensors").config.metrics == ("psnr", "brisque")
    assert {path.name for path in (project / "run").iterdir()} == {
        "held_out", "walks", "losses.png", "origin.json", "photographs.json", "recipe.json", "sheet-0000002.png",
        "state.safetensors", "taught.safetensors", "weights.safetensors",
    }  # fmt: skip
    assert main(words(project, "--steps", 3)) == 0
    assert load_state(project / "run" / "state.safetensors")[1]["step"] == 3
    # another run on the same walks, taught by the truth; then what does not fit the walks
    other = ["--run", project / "other", "--cache", project / "run"]
    assert main(words(project, *other, "--reference", "gt")) == 0
    assert load_checkpoint(project / "other" / "weights.safetensors").facts["reference"] == "gt"
    assert {path.name for path in (project / "run" / "walks" / "targets").iterdir()} == {
        "psnr-lq", "psnr-gt", "brisque"
    }  # fmt: skip
    capsys.readouterr()
    for more, sentence in (
        (["--seed", 9], "was made with other settings"),
        (["--metrics", "psnr"], "nr_metrics"),
        (["--metrics", "sharpness"], "no metric sharpness"),
        (["--reference", "none"], "invalid choice"),
        (["--model", project / "absent"], "does not exist"),
    ):
        assert main(words(project, *more)) == 2
        assert sentence in capsys.readouterr().err
    (project / "mmle.json").write_text(json.dumps(SECTIONS | {"data": {"size_px": 60}}))
    assert main(words(project)) == 2
    assert "size_px 60 is not a multiple of 16" in capsys.readouterr().err


def test_difficulty_is_taught_beside_what_was_trained_and_only_once(project, monkeypatch):
    assert main(words(project)) == 0
    trained, taught = (load_checkpoint(project / "run" / f"{name}.safetensors") for name in ("weights", "taught"))
    assert {*taught.tensors} - {*trained.tensors} == {"mmle.difficulty.weight", "mmle.difficulty.bias"}
    assert all(torch.equal(taught.tensors[name], value) for name, value in trained.tensors.items())
    assert taught.facts["difficulty"]["walks"] == SECTIONS["ends"]
    assert load_mmle(project / "run" / "taught.safetensors").difficulty is not None
    monkeypatch.setattr(teaching, "teach_difficulty", None)  # not callable
    assert main(words(project)) == 0


def test_a_recipe_without_ends_teaches_no_difficulty(project, capsys):
    (project / "mmle.json").write_text(json.dumps(SECTIONS | {"ends": 0}))
    assert main(words(project)) == 0
    assert capsys.readouterr().out == f"{project / 'run' / 'weights.safetensors'}: mmle after 2 steps\n"
    (project / "mmle.json").write_text(json.dumps(SECTIONS | {"ends": 1}))
    assert main(words(project)) == 2
    assert "ends must be 0, or at least 2 to learn from, got 1" in capsys.readouterr().err


def test_the_shipped_recipe_is_whole():
    recipe = MmleRecipe.from_dict(read_recipe("mmle", None, {}, {}))
    assert recipe.net.metrics == ("psnr", "st_lpips", "vsi", "nlpd", "brisque", "niqe")
    assert (recipe.reference, recipe.walk.sampling) == ("lq", PRESETS["everyday"])
    assert recipe.data.size_px >= 192  # NIQE's least
    assert MmleRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for change, sentence in (({"walks": 0}, "walks"), ({"reference": "hq"}, "reference")):
        with pytest.raises(ConfigError, match=sentence):
            MmleRecipe.from_dict({**recipe.to_dict(), **change})
