"""Between two models lie others: their UNets' means, and the first's of all else."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.errors import CheckpointError, ConfigError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets.unet import UNet
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.training.tasks.ldm import save_ldm
from scripts.average_models import average
from tests.oracles import TINY_UNET, randomise, tiny_model


@pytest.fixture
def models(tmp_path):
    paths = []
    for seed in (1, 2):
        model = tiny_model()
        paths.append(tmp_path / f"{seed}.safetensors")
        unet, autoencoder = randomise(model.unet, seed), randomise(model.autoencoder, seed)
        save_ldm(unet, autoencoder, model.schedule, paths[-1], {"steps": 100 * seed})
    return paths


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_unets_are_averaged_and_nothing_else(models, tmp_path, share):
    out = tmp_path / "out.safetensors"
    average(*models, out, share)
    first, second, made = (load_model(path) for path in (*models, out))
    ours = made.unet.state_dict()
    for name, value in first.unet.state_dict().items():
        expected = (1 - share) * value + share * second.unet.state_dict()[name]
        torch.testing.assert_close(ours[name], expected, rtol=2e-3, atol=2e-3)  # the files hold halves
    for name, value in first.autoencoder.state_dict().items():
        assert torch.equal(made.autoencoder.state_dict()[name], value)
    assert dict(load_checkpoint(out).facts) == {"steps": 100, "averaged": {"share": share, "steps": 200}}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_between_none_and_all(models, tmp_path, share):
    with pytest.raises(ConfigError, match=r"share must be in \[0,1\]"):
        average(*models, tmp_path / "out.safetensors", share)


def test_models_of_other_shapes_or_targets_have_nothing_between_them(models, tmp_path):
    model = tiny_model()
    other = tmp_path / "other.safetensors"
    for unet, schedule in (
        (UNet(TINY_UNET), Schedule("eps")),
        (UNet(replace(TINY_UNET, num_res_blocks=2)), model.schedule),
    ):
        save_ldm(unet, model.autoencoder, schedule, other, {})
        with pytest.raises(ConfigError, match="not models of one shape"):
            average(models[0], other, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_that_lacks_a_tensor_is_refused(models, tmp_path):
    whole = load_checkpoint(models[1])
    tensors = dict(list(whole.tensors.items())[1:])
    save_checkpoint(Checkpoint("ldm", whole.config, tensors, {}), models[1])
    with pytest.raises(ConfigError, match="not models of one shape"):
        average(*models, tmp_path / "out.safetensors")


def test_only_diffusion_models_are_averaged(models, tmp_path):
    models[1].write_bytes(b"no weights")
    with pytest.raises(CheckpointError):
        average(*models, tmp_path / "out.safetensors")
