"""A whole model's file: the same pictures after saving, its scales, odd configs, and the embedded one."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import adadiffsr_core
from adadiffsr_core.errors import CheckpointError
from adadiffsr_core.models.checkpoint import load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import embedded_weights, load_model
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.pipeline import sample_latent, upscale
from tests.core.restored import SMALL, draw
from tests.oracles import TINY_UNET, to_checkpoint


def save_model(path, model, **changes):
    made = to_checkpoint(model.unet, model.autoencoder, model.schedule)
    config = {name: section for name, section in (made.config | changes).items() if section is not None}
    save_checkpoint(replace(made, config=config), path, torch.float32)
    return path


def test_a_saved_model_gives_the_same_picture(model, tmp_path):
    loaded = load_model(save_model(tmp_path / "model.safetensors", model))
    assert (loaded.schedule, loaded.unet.config) == (model.schedule, TINY_UNET)
    image = draw(1, 3, 20, 20)
    expected = upscale(model, image, (80, 80), SMALL).image
    torch.testing.assert_close(upscale(loaded, image, (80, 80), SMALL).image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("section", "scales"), [(None, Scales(3, 8)), ([1, 4], Scales(1, 4)), ([2.5, 6], Scales(2.5, 6))]
)
def test_a_file_says_what_scales_it_knows(section, scales, model, tmp_path):
    assert load_model(save_model(tmp_path / "model.safetensors", model, scales=section)).scales == scales


@pytest.mark.parametrize("section", [[4], [4, 1], [0, 4], [1, 2, 3], ["x", 4], 4, {"least": 1}, [None, 4], "14"])
def test_scales_that_are_no_range_are_refused(section, model, tmp_path):
    with pytest.raises(CheckpointError, match="scales"):
        load_model(save_model(tmp_path / "model.safetensors", model, scales=section))


def test_half_precision_networks_give_nearly_the_same(model, tmp_path):
    coarse = load_model(save_model(tmp_path / "model.safetensors", model), dtype=torch.bfloat16)
    assert coarse.dtype == torch.bfloat16
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    exact, near = (sample_latent(net, latent, SMALL.uniform(1))[0] for net in (model, coarse))
    assert near.dtype == torch.float32
    assert (near - exact).square().mean().sqrt() < 0.1 * exact.std()


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"prediction": "x0"}},
        {"schedule": {"betas": "linear"}},
        {"schedule": [1]},
        {"schedule": None},
        {"unet": {"attention": True}},
        {"unet": {"model_channels": 33}},
        {"unet": {"model_channels": 64}},
        {"unet": 3},
        {"autoencoder": {"channels": [8]}},
        {"autoencoder": None},
    ],
    ids=str,
)
def test_files_with_odd_configs_are_refused(changes, model, tmp_path):
    path = save_model(tmp_path / "model.safetensors", model, **changes)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_weights_are_found_whatever_the_package_is_called():
    """Inside ComfyUI the core is a part of another package."""
    root = Path(adadiffsr_core.__file__).parent
    spec = importlib.util.spec_from_file_location("pack_core", root / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    sys.modules["pack_core"] = package
    try:
        spec.loader.exec_module(package)
        copy = importlib.import_module("pack_core.models.model")
        assert copy.load_model is not load_model
        assert copy.embedded_weights() == embedded_weights() == root / "weights" / "embedded.safetensors"
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "pack_core"]:
            del sys.modules[name]


@pytest.mark.skipif(not embedded_weights().is_file(), reason="the embedded model has not been trained yet")
def test_the_embedded_model_loads():
    checkpoint = load_checkpoint(embedded_weights())
    assert checkpoint.kind in ("ldm", "bundle")
    model = load_model()
    assert model.autoencoder.config.factor == 8
    assert embedded_weights().stat().st_size <= 40e6
