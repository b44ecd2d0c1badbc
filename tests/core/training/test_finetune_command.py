"""`adadiffsr train ldm --init`: a Stable Diffusion checkpoint or a model of ours goes on by command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from adadiffsr_core.cli import main
from adadiffsr_core.commands.train import ldm as ldm_command
from adadiffsr_core.data.dataset import PairConfig, PairDataset, split_photos
from adadiffsr_core.data.latent_pairs import LatentPairs, PairEncoder
from adadiffsr_core.data.pair_source import RenewedPairs, Window
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.metrics.base import CheckedMetric
from adadiffsr_core.metrics.registry import metric_info
from adadiffsr_core.models import ldm_format
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import embedded_weights
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.training.loop.loop import LoopConfig, Run
from adadiffsr_core.training.recipe import LdmRecipe, read_recipe
from adadiffsr_core.training.tasks.finetune import FinetuneTask
from adadiffsr_core.training.tasks.ldm import LdmTask, LdmTaskConfig, load_autoencoder, save_ldm
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.oracles import randomise
from tests.toy_sd import ENCODER, PREFIX, save_sd
from tests.trained import RARE, make_pairs, make_pictures, state_of

# ---- the command


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        pixels = rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"photo{index}.png")
    save_sd(tmp_path / "sd.safetensors")
    monkeypatch.setattr(ldm_format, "SdEncoderConfig", lambda: ENCODER)
    return tmp_path


SECTIONS = {
    "loop": {"check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1, "steps": 2, "accumulation": 2},
    "task": {"batch_size": 1, "pfj_width": 8},
    "data": {"size_px": 64, "min_scale": 1.0},
    "pairs": 4,
    "held_out": 2,
    "holdout": 0.4,
}


def words(project, *more, init="sd.safetensors", **sections):
    config = project / f"config{len(list(project.glob('config*')))}.json"
    config.write_text(json.dumps(SECTIONS | sections))
    return [
        "train", "ldm", str(project / "data"), "--run", str(project / "run"), "--init", str(project / init),
        "--config", str(config), "--threads", "1", *map(str, more),
    ]  # fmt: skip


def test_a_checkpoint_is_finetuned_by_command(project, capsys, monkeypatch):
    made = []
    monkeypatch.setattr(ldm_command, "FinetuneTask", lambda *args: made.append(FinetuneTask(*args)) or made[-1])
    assert main(words(project, "--device", "cpu")) == 0
    assert capsys.readouterr().out == f"{project / 'run' / 'checkpoint.safetensors'}: finetune after 2 steps\n"
    assert {path.name for path in (project / "run").iterdir()} == {
        "held_out", "pairs", "losses.png", "origin.json", "photographs.json", "recipe.json", "sheet-0000002.png",
        "state.safetensors", "checkpoint.safetensors", "pfj.safetensors",
    }  # fmt: skip
    (task,) = made
    assert task.prediction == "eps"
    assert task.context.shape == (1, 77, 1024)
    assert task.networks["model"]["unet"].checkpointing
    gt = torch.from_numpy(np.load(project / "run" / "pairs" / "gt.npy"))
    assert gt.shape == (4, 4, 8, 8)
    recipe = json.loads((project / "run" / "recipe.json").read_text())
    assert (recipe["loop"]["learning_rate"], recipe["loop"]["betas"]) == (5e-5, [0.9, 0.999])
    assert recipe["net"]["context_dim"] == 1024
    assert main(words(project, "--steps", 3, "--prediction", "v", "--device", "cpu")) == 0
    assert state_of(project / "run")[1] == 3
    assert made[-1].prediction == "v"


def test_bad_input_gets_one_sentence(project, capsys):
    save_file({"a": torch.zeros(1)}, project / "lora.safetensors")
    (project / "cut.safetensors").write_bytes(b"nothing")
    for bad, sentence in (
        (words(project, init="absent.safetensors"), "absent.safetensors does not exist"),
        (words(project, init="cut.safetensors"), "cannot be read as a safetensors file"),
        (words(project, init="lora.safetensors"), "cannot be fine-tuned"),
        (words(project, "--autoencoder", "x"), "not for Stable Diffusion checkpoints"),
        (words(project, data={"size_px": 72}), "size_px 72 is not a multiple of 16"),
        (words(project, task={"gain": "mmle"}), "use statistics or none"),
        (words(project, "--device", "meta"), "cannot be used"),
    ):
        assert main(bad) == 2
        captured = capsys.readouterr()
        assert sentence in captured.err
        assert captured.err.count("\n") == 1
    assert not (project / "run" / "state.safetensors").exists()


# ---- a model of ours

OURS = {
    "loop": {"warmup_steps": 1, "log_every": 1, "check_every": RARE, "save_every": RARE, "steps": 2, "seed": 4},
    "task": {"batch_size": 2},
    "data": {"size_px": 64, "min_scale": 1.0, "scales": [4, 4]},
    "pairs": 16,
    "held_out": 6,
}


def save_ours(path, prediction="v"):
    autoencoder = Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    unet = UNet(UNetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1))
    save_ldm(randomise(unet), randomise(autoencoder), Schedule(prediction), path, {})
    return path


def test_a_model_of_ours_goes_on_from_its_weights(project, capsys):
    path = save_ours(project / "ours.safetensors")
    assert main(words(project, init=path.name, **OURS)) == 0
    assert capsys.readouterr().out == f"{project / 'run' / 'weights.safetensors'}: ldm after 2 steps\n"
    written = load_checkpoint(project / "run" / "weights.safetensors", "ldm")
    autoencoder = load_autoencoder(path)
    for key, value in autoencoder.state_dict().items():
        assert torch.equal(written.tensors[f"first_stage_model.{key}"].float(), value)

    # the same by hand: a fresh optimiser, and an average that begins with the file's weights
    start = load_checkpoint(path)
    net, config = UNetConfig.from_dict(start.section("unet")), LoopConfig.from_dict(read_recipe(
        "ldm_continue", None, OURS["loop"] | {"accumulation": 1}, {})["loop"])  # fmt: skip
    photos = split_photos(find_images([project / "data"]), 0.4).train
    dataset = PairDataset(photos, PairConfig.from_dict(OURS["data"]), 0, 2**40)
    processor = Processor.open(torch.device("cpu"))
    encoder, window = PairEncoder(autoencoder, processor), Window(16, 16, 0.25)
    pairs = RenewedPairs(project / "window", dataset, encoder, window, config.seed)
    held_out = LatentPairs(project / "run" / "held_out")
    task = LdmTask(
        net,
        LdmTaskConfig(batch_size=2),
        autoencoder,
        Examples(pairs, held_out),
        make_pictures(),
        TaskSetup(processor, config.seed),
    )
    start.load_into(task.networks["unet"], PREFIX)
    Run(task, config, project / "by_hand").train()
    (ours, _), (by_hand, _) = (state_of(project / name) for name in ("run", "by_hand"))
    assert ours.keys() == by_hand.keys()
    assert [key for key in ours if not torch.equal(ours[key], by_hand[key])] == []

    assert main(words(project, "--steps", 3, init=path.name, **OURS)) == 0  # nothing begun again
    assert state_of(project / "run")[1] == 3
    assert not torch.equal(state_of(project / "run")[0]["network.unet.out.2.weight"], ours["network.unet.out.2.weight"])


def test_the_shipped_models_second_training_has_its_recipe():
    net = load_checkpoint(embedded_weights()).section("unet")
    recipe = LdmRecipe.from_dict(read_recipe("ldm_continue", None, {}, {}, net=net))
    assert (recipe.loop.steps, recipe.loop.learning_rate, recipe.loop.decay_share) == (3000, 4e-4, 0.5)
    assert (recipe.loop.seed, recipe.pairs_seed, recipe.task.batch_size) == (1, 0, 32)
    first = LdmRecipe.from_dict(read_recipe("ldm", None, {}, {}))
    assert (recipe.pairs, recipe.held_out, recipe.data) == (first.pairs, first.held_out, first.data)
    assert recipe.net.to_dict() == UNetConfig.from_dict(net).to_dict()  # whatever the recipe for a new one says


def test_a_model_is_finished_by_its_own_recipe(project, monkeypatch):
    """Looked at besides: from its weights, with what looks kept in the run's state and out of the model's file."""
    monkeypatch.setattr("adadiffsr_core.training.tasks.picture_losses.StLpips", pytest.fail)
    path = save_ours(project / "model.safetensors", "v")
    seen = {**OURS, "task": {**OURS.get("task", {}), "perceptual_weight": 0.0, "discriminator": "pixels"}}
    assert main([*words(project, init=path.name, **seen), "--finish"]) == 0
    written = json.loads((project / "run" / "recipe.json").read_text())["task"]
    shipped = read_recipe("ldm_finish", None, {}, {})["task"]
    assert {key: written[key] for key in ("adversarial_weight", "feature_weight")} == {
        key: shipped[key] for key in ("adversarial_weight", "feature_weight")
    }
    assert any(key.startswith("network.discriminator.") for key in state_of(project / "run")[0])
    finished, before = load_checkpoint(project / "run" / "weights.safetensors", "ldm"), load_checkpoint(path)
    assert finished.tensors.keys() == before.tensors.keys()
    assert any(not torch.equal(finished.tensors[key], before.tensors[key]) for key in finished.tensors)


def test_a_run_is_watched_by_what_it_was_told(project):
    """Beside its own figures, by metrics of the restored pictures, without those of which one is undefined."""
    path = save_ours(project / "model.safetensors", "v")
    asked = []

    def compute(image, reference):
        asked.append(image)
        return torch.tensor([4.0, float("nan"), 2.0, 3.0, 3.0, 3.0])

    metric = CheckedMetric(metric_info("niqe"), compute, 32, torch.device("cpu"))
    start, pictures = load_checkpoint(path), make_pictures(side=64)
    task = LdmTask(
        UNetConfig.from_dict(start.section("unet")), LdmTaskConfig(batch_size=2), load_autoencoder(path),
        Examples(None, make_pairs(project / "held", count=6)), pictures._replace(metrics=[metric]),
        TaskSetup(Processor(), 0),
    )  # fmt: skip
    with torch.no_grad():
        figures = task.check(task.networks)
        torch.testing.assert_close(asked[0], task.restore(task.networks, task.low_quality))
    assert figures["niqe"] == 3.0
    assert figures.keys() >= {"loss", "error", "psnr", "niqe"}


def test_what_a_model_predicts_it_goes_on_to_predict(project):
    flow = save_ours(project / "flow.safetensors", "flow")
    assert main(words(project, init=flow.name, **OURS)) == 0
    written = load_checkpoint(project / "run" / "weights.safetensors", "ldm")
    assert written.section("schedule") == {"prediction": "flow"}
    assert written.config["scales"] == [4.0, 4.0]


def test_what_cannot_go_on_is_said(project, capsys):
    ours = save_ours(project / "ours.safetensors")
    bare = words(project, **OURS)
    del bare[bare.index("--init") : bare.index("--init") + 2]
    for bad, sentence in (
        (words(project, "--target", "residual", init=ours.name, **OURS), "denoises the picture; leave --target out"),
        (words(project, "--prediction", "v", init=ours.name, **OURS), "is for fine-tuning a Stable Diffusion"),
        (bare, "name the autoencoder's weights by --autoencoder, or a whole model by --init"),
        ([*bare, "--autoencoder", str(ours), "--finish"], "--finish goes on from a trained model; name it by --init"),
        (words(project, "--finish"), "--iqa-weights are not for Stable Diffusion checkpoints"),
    ):
        assert main(bad) == 2
        assert sentence in capsys.readouterr().err
