"""Training of a decoder on what a model samples: the pairs, the task, the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.cli import main
from adadiffsr_core.data.arrays import write_done
from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.loop.loop import Run
from adadiffsr_core.training.recipe import DecoderRecipe, read_recipe
from adadiffsr_core.training.tasks.decoder import DecoderTask, DecoderTaskConfig
from adadiffsr_core.training.tasks.ldm import save_ldm
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from adadiffsr_core.training.walks import sampled as sampled_module
from adadiffsr_core.training.walks.sampled import SampledPairs, build_sampled_pairs
from scripts.assemble_bundle import assemble
from tests.core.training.looped import loop
from tests.oracles import tiny_model

EVERYDAY = PRESETS["everyday"]
SECTIONS = {
    "loop": {"steps": 2, "check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "task": {"batch_size": 2, "encoded_share": 0.5, "crop": 4, "perceptual_weight": 0, "adversarial_weight": 0},
    "data": {"size_px": 64, "min_scale": 1.0},
    "pairs": 6,
    "held_out": 6,
    "holdout": 0.4,
}


def stray_pairs(folder, autoencoder, count, seed):
    """Pictures as the decoder paints them, and latents that stray from theirs, everywhere by the same."""
    folder.mkdir(parents=True)
    latent = torch.randn(count, autoencoder.config.z_channels, 8, 8, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        painted = autoencoder.decode(latent).clamp(0, 1) * 255
    np.save(folder / "gt.npy", painted.round().to(torch.uint8).numpy())
    np.save(folder / "latent.npy", (latent + 0.5).numpy().astype(np.float16))
    write_done(folder, count)
    return SampledPairs(folder)


@pytest.fixture
def examples(tmp_path):
    coder = tiny_model().autoencoder
    return Examples(stray_pairs(tmp_path / "a", coder, 24, 0), stray_pairs(tmp_path / "b", coder, 8, 1))


def make_task(examples, **settings):
    config = DecoderTaskConfig(**{"batch_size": 4, "encoded_share": 0.5, "crop": 4, **settings})
    return DecoderTask(tiny_model().autoencoder, config, examples, TaskSetup(Processor(), 3, {"model": "abc"}))


def photographs(folder, count=6):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(folder / f"photo{index}.png")
    return sorted(folder.iterdir())


def test_pairs_are_what_the_sampler_makes_and_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(sampled_module, "_BATCH", 2)
    model, data = tiny_model(), PairConfig(size_px=64, min_scale=1.0)
    dataset = PairDataset(photographs(tmp_path / "photos"), data, 5, 5)
    sampling = replace(EVERYDAY, seed=7)
    whole = build_sampled_pairs(tmp_path / "whole", dataset, model, sampling)
    assert whole.count == 5
    latent, truth = whole.take(range(2, 4))
    gt, lq = (torch.stack(images) for images in zip(dataset[2], dataset[3], strict=True))
    assert torch.equal(truth, gt.float() / 255)
    plain = replace(EVERYDAY, seed=8, tile_size=64, overlap=0, tile_fit=False)  # the second batch's noise
    expected = sample_latent(model, model.encode(lq.float() / 255), plain).latent
    assert torch.equal(latent, expected.half().float())

    class StoppedError(Exception):
        pass

    def stop_at(item):
        if item == 2:
            raise StoppedError
        return PairDataset.__getitem__(dataset, item)

    stopped = type(
        "Stopped", (), {"config": data, "__len__": lambda _: 5, "__getitem__": lambda _, item: stop_at(item)}
    )
    with pytest.raises(StoppedError):
        build_sampled_pairs(tmp_path / "halves", stopped(), model, sampling)
    assert SampledPairs(tmp_path / "halves").count == 2
    again = build_sampled_pairs(tmp_path / "halves", dataset, model, sampling)
    assert all(map(torch.equal, again.take(range(5)), whole.take(range(5))))


def test_latents_and_truth_are_cut_in_one_place(tmp_path):
    """Each latent px says where it is, and so does each pixel."""
    rows, columns = np.mgrid[:8, :8]
    places = (rows * 8 + columns).astype(np.float16)
    folder = tmp_path / "pairs"
    folder.mkdir()
    np.save(folder / "latent.npy", np.broadcast_to(places, (3, 4, 8, 8)))
    np.save(folder / "gt.npy", np.broadcast_to(places.repeat(8, 0).repeat(8, 1), (3, 3, 64, 64)).astype(np.uint8))
    write_done(folder, 3)
    pairs = SampledPairs(folder)
    latent, truth = pairs.draw(np.random.default_rng(0), 16, 3)
    assert (latent.shape, truth.shape) == ((16, 4, 3, 3), (16, 3, 24, 24))
    seen = torch.nn.functional.avg_pool2d(truth * 255, 8)
    torch.testing.assert_close(seen, latent[:, :3])
    assert len({float(first) for first in latent[:, 0, 0, 0]}) > 4
    assert pairs.draw(np.random.default_rng(0), 2, 99)[0].shape[-1] == 8


def test_damaged_pairs_are_refused(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    write_done(folder, 3)
    latent = np.zeros((3, 4, 8, 8), np.float16)
    np.save(folder / "latent.npy", latent)
    for shape in ((2, 3, 64, 64), (3, 4, 64, 64), (3, 3, 64, 60), (3, 3, 64), (3, 3, 4, 4)):
        np.save(folder / "gt.npy", np.zeros(shape, np.uint8))
        with pytest.raises(ConfigError, match="holds pairs of shapes"):
            SampledPairs(folder)
    np.save(folder / "gt.npy", np.zeros((3, 3, 64, 64), np.uint8))
    latent[1, 0, 2, 2] = np.nan
    np.save(folder / "latent.npy", latent)
    with pytest.raises(ConfigError, match="holds NaN or infinity"):
        SampledPairs(folder).take(range(3))


def test_a_picture_that_comes_back_exact_does_not_hide_the_others(tmp_path):
    """A plain black one does where the decoder goes below black."""
    coder = tiny_model().autoencoder
    pairs = stray_pairs(tmp_path / "a", coder, 8, 0)
    with torch.no_grad():
        coder.decoder.conv_out.weight.zero_()
        coder.decoder.conv_out.bias.fill_(-9)
    np.save(tmp_path / "a" / "gt.npy", np.zeros((8, 3, 64, 64), np.uint8))
    black = SampledPairs(pairs.folder)
    task = DecoderTask(coder, DecoderTaskConfig(crop=4), Examples(black, black), TaskSetup(Processor(), 3))
    assert task.check(task.networks)["sampled_db"] == pytest.approx(60)


def test_the_decoder_learns_what_strays_and_the_encoder_stays(examples, tmp_path):
    task = make_task(examples, encoded_share=0.0)
    before = {key: value.clone() for key, value in task.networks["autoencoder"].state_dict().items()}
    begun = task.check(task.networks)
    Run(task, loop(120, learning_rate=1e-3, ema_decay=0.9), tmp_path / "run").train()
    ended = task.check(task.networks)
    assert ended["sampled_db"] > begun["sampled_db"] + 1
    moved = {
        key for key, value in task.networks["autoencoder"].state_dict().items() if not torch.equal(value, before[key])
    }
    assert moved == {key for key in before if key.startswith("decoder.")}


def test_pictures_of_their_own_latents_keep_coming_back(examples, tmp_path):
    """Shown both, the decoder does not unlearn what it could."""
    kept = []
    for share in (0.0, 1.0):
        task = make_task(examples, encoded_share=share)
        Run(task, loop(120, learning_rate=1e-3, ema_decay=0.9), tmp_path / str(share)).train()
        kept.append(task.check(task.networks)["round_trip_db"])
    assert kept[1] > kept[0] + 0.4


def test_impossible_settings_are_refused():
    for wrong in ({"batch_size": 0}, {"crop": 0}, {"crop": 3}):
        with pytest.raises(ConfigError, match="batch_size must be at least 1 and crop 4"):
            DecoderTaskConfig(**wrong)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="encoded_share"):
            DecoderTaskConfig(encoded_share=share)
    with pytest.raises(ConfigError, match="preset"):
        DecoderRecipe(preset="swift")
    with pytest.raises(ConfigError, match="pairs and held_out must be at least 1"):
        DecoderRecipe(pairs=0)


def test_the_command_trains_goes_on_and_refuses(tmp_path, capsys):
    photographs(tmp_path / "data")
    model = tmp_path / "model.safetensors"
    assemble([_write_ldm(tmp_path)], model)
    (tmp_path / "decoder.json").write_text(json.dumps(SECTIONS))
    words = ["train", "decoder", str(tmp_path / "data"), "--run", str(tmp_path / "run"), "--config"]
    words += [str(tmp_path / "decoder.json"), "--threads", "1", "--model", str(model)]
    assert main(words) == 0
    weights = tmp_path / "run" / "weights.safetensors"
    assert capsys.readouterr().out == f"{weights}: decoder after 2 steps\n"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "held_out", "pairs", "losses.png", "origin.json", "photographs.json", "recipe.json", "sheet-0000002.png",
        "state.safetensors", "weights.safetensors",
    }  # fmt: skip
    assert main([*words, "--steps", "3"]) == 0
    # Joined with the model that sampled, its encoder and its UNet are the same bits.
    joined = tmp_path / "joined.safetensors"
    assemble([_write_ldm(tmp_path), weights], joined)
    old, new = load_model(model), load_model(joined)
    same = {
        key: torch.equal(value, new.autoencoder.state_dict()[key])
        for key, value in old.autoencoder.state_dict().items()
    }
    assert {key.split(".")[0] for key, is_same in same.items() if not is_same} == {"decoder"}
    for more, sentence in (
        (["--model", str(joined)], "was made with other model"),
        (["--model", str(weights)], "holds autoencoder, not ldm or bundle"),
    ):
        capsys.readouterr()
        assert main([*words, *more]) == 2, more
        assert sentence in capsys.readouterr().err
    for change, sentence in (
        ({"data": {"size_px": 60}}, "size_px 60 is not a multiple of 16"),
        ({"net": {"z_channels": 5}}, "net.z_channels is 5, and the model's is 4; leave it out"),
    ):
        (tmp_path / "decoder.json").write_text(json.dumps(SECTIONS | change))
        capsys.readouterr()
        assert main(words) == 2
        assert sentence in capsys.readouterr().err


def _write_ldm(folder):
    model, path = tiny_model(), folder / "ldm.safetensors"
    save_ldm(model.unet, model.autoencoder, model.schedule, path, {})
    return path


def test_the_shipped_recipe_is_of_the_embedded_model():
    recipe = DecoderRecipe.from_dict(read_recipe("decoder", None, {}, {}))
    model = load_model()
    assert recipe.data.size_px >= recipe.task.crop * model.autoencoder.config.factor
    assert recipe.data.size_px % (model.autoencoder.config.factor * model.unet.config.multiple) == 0
    assert round(recipe.task.batch_size * recipe.task.encoded_share) > 0
    assert DecoderRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
