"""`adadiffsr train pfj`: the command, the cache that it shares, and the shipped recipe."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.cli import main
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_pfj
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import LdmRecipe, PfjRecipe, read_recipe
from adadiffsr_core.training.tasks.ldm import save_ldm
from tests.oracles import TINY_AUTOENCODER, randomise, tiny_model

SECTIONS = {
    "loop": {"steps": 2, "check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "net": {"channels": [32, 64], "width": 8},
    "task": {"batch_size": 2, "perceptual_weight": 0},
    "data": {"size_px": 64, "min_scale": 1.0},
    "pairs": 6,
    "held_out": 6,
    "holdout": 0.4,
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(tmp_path / "data" / f"photo{index}.png")
    model = tiny_model()
    save_ldm(model.unet, model.autoencoder, model.schedule, tmp_path / "model.safetensors", {})
    (tmp_path / "pfj.json").write_text(json.dumps(SECTIONS))
    return tmp_path


def words(folder, *more, network="pfj"):
    fixed = [folder / "data", "--run", folder / "run", "--config", folder / f"{network}.json", "--threads", 1]
    return ["train", network, *map(str, [*fixed, *more])]


def pfj_words(folder, *more):
    return words(folder, "--model", folder / "model.safetensors", *more)


def refusal(arguments, capsys):
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_command_trains_goes_on_and_refuses(project, capsys):
    assert main(pfj_words(project)) == 0
    assert capsys.readouterr().out == f"{project / 'run' / 'weights.safetensors'}: pfj after 2 steps\n"
    assert {path.name for path in (project / "run").iterdir()} == {
        "held_out", "pairs", "losses.png", "origin.json", "photographs.json", "recipe.json", "sheet-0000002.png",
        "state.safetensors",
        "weights.safetensors",
    }  # fmt: skip
    facts = load_checkpoint(project / "run" / "weights.safetensors", "pfj").facts
    assert (facts["mode"], facts["estimator"], facts["steps"]) == ("pfj", "LatentStatistics", 2)
    assert main(pfj_words(project, "--steps", 3)) == 0
    assert load_state(project / "run" / "state.safetensors")[1]["step"] == 3
    other = tiny_model()
    randomise(other.unet, 9)
    save_ldm(other.unet, other.autoencoder, other.schedule, project / "other.safetensors", {})
    strange = randomise(Autoencoder(TINY_AUTOENCODER), 7)
    save_ldm(other.unet, strange, other.schedule, project / "strange.safetensors", {})
    away = ["--run", project / "away", "--cache", project / "run"]
    for more, sentence in (
        (["--mode", "concat"], "was made with other networks"),
        (["--joint"], "was made with other joint"),
        (["--seed", 4], "was made with other seed"),
        (["--model", project / "other.safetensors"], "was made with other model"),
        ([*away, "--model", project / "strange.safetensors"], "was made with other autoencoder"),
        (["--mode", "sum"], "invalid choice"),
        (["--mmle", project / "absent"], "does not exist"),
        (["--mmle", project / "model.safetensors"], "holds ldm, not mmle or bundle"),
        (["--model", project / "run" / "weights.safetensors"], "holds pfj, not ldm or bundle"),
    ):
        assert sentence in refusal(pfj_words(project, *more), capsys), more
    # Whatever the recipe says of them, widths and channels are the model's.
    (project / "pfj.json").write_text(json.dumps(SECTIONS | {"net": {**SECTIONS["net"], "channels": [64, 128, 192]}}))
    assert main(pfj_words(project, "--run", project / "fitted")) == 0
    fitted = load_checkpoint(project / "fitted" / "weights.safetensors", "pfj").section("pfj")
    assert (fitted["channels"], fitted["latent_channels"]) == ([32, 64], 4)
    (project / "pfj.json").write_text(json.dumps(SECTIONS | {"data": {"size_px": 60}}))
    assert "size_px 60 is not a multiple of 16" in refusal(pfj_words(project), capsys)


def test_runs_of_all_kinds_share_a_cache(project, monkeypatch):
    encoded, encode = [], Autoencoder.encode
    monkeypatch.setattr(Autoencoder, "encode", lambda self, image: (encoded.append(len(image)), encode(self, image))[1])
    ldm = {key: SECTIONS[key] for key in SECTIONS if key not in ("net", "task")}
    ldm["task"] = {"batch_size": 2}
    ldm["net"] = {
        "in_channels": 8, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1,
        "attention_levels": [],
    }  # fmt: skip
    ldm["pairs"] = 16
    (project / "ldm.json").write_text(json.dumps(ldm))
    cache = ["--cache", project / "cache"]
    ldm_words = words(project, "--autoencoder", project / "model.safetensors", *cache, network="ldm")
    ldm_words[ldm_words.index(str(project / "run"))] = str(project / "ldm")
    assert main(ldm_words) == 0
    assert {path.name for path in (project / "cache").iterdir()} == {
        "held_out"
    }  # a window moves on, so it is shared by none
    made = sum(encoded)
    for mode in ("pfj", "concat"):
        more = ["--model", project / "ldm" / "weights.safetensors", "--run", project / mode, "--mode", mode, *cache]
        assert main(words(project, *more, "--joint", "--seed", 5)) == 0
        assert load_pfj(project / mode / "weights.safetensors").config.mode == mode
        load_model(project / mode / "ldm.safetensors")
    assert sum(encoded) == made + 2 * SECTIONS["pairs"]
    assert {path.name for path in (project / "cache").iterdir()} == {"pairs", "held_out"}


def test_the_shipped_recipes_can_share_what_they_measure_on():
    pfj = PfjRecipe.from_dict(read_recipe("pfj", None, {}, {}))
    ldm = LdmRecipe.from_dict(read_recipe("ldm", None, {}, {}))
    assert (pfj.data, pfj.held_out, pfj.holdout, pfj.pairs_seed) == (ldm.data, ldm.held_out, ldm.holdout, ldm.loop.seed)


def test_the_shipped_recipe_fits_the_embedded_model():
    recipe = PfjRecipe.from_dict(read_recipe("pfj", None, {}, {}))
    assert (recipe.loop.steps, recipe.joint, recipe.net.mode) == (150, False, "pfj")
    unet = load_model().unet.config  # as the command does
    net = replace(recipe.net, latent_channels=unet.out_channels, channels=unet.widths)
    replace(load_model(), pfj=Pfj(net))
    assert PfjRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for change in ({"pairs": 0}, {"held_out": 5}):
        with pytest.raises(ConfigError, match="pairs must be at least 1 and held_out 6"):
            PfjRecipe.from_dict({**recipe.to_dict(), **change})
