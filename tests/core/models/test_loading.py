"""The two small networks out of files: of their own, out of a bundle, or refused in one sentence."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from adadiffsr_core.errors import CheckpointError, ConfigError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_mmle, load_pfj
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.mmle import Mmle, MmleConfig
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from tests.oracles import TINY_MMLE, TINY_PFJ, randomise, tiny_model, to_checkpoint

KINDS = {"mmle": (Mmle(TINY_MMLE), load_mmle), "pfj": (Pfj(TINY_PFJ), load_pfj)}


def parts(name, **changes):
    """Tensors and config of a small network with known weights."""
    net = randomise(KINDS[name][0])
    tensors = {f"{name}.{key}": value for key, value in net.state_dict().items()}
    return net, tensors, {name: net.config.to_dict() | changes}


def write(path, name, kind=None, drop=(), **changes):
    _, tensors, config = parts(name, **changes)
    tensors = {key: value for key, value in tensors.items() if key not in drop}
    save_checkpoint(Checkpoint(kind or name, config, tensors), path, torch.float32)
    return path


def write_bundle(path, *names, **changes):
    model = tiny_model()
    made = to_checkpoint(model.unet, model.autoencoder)
    tensors, config = made.tensors, made.config
    for name in names:
        _, more, section = parts(name, **changes)
        tensors, config = tensors | more, config | section
    save_checkpoint(Checkpoint("bundle", config, tensors), path, torch.float32)
    return path


def same_weights(net, other):
    assert net.config == other.config
    return all(torch.equal(value, other.state_dict()[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_saved_is_loaded_and_ready_to_run(name, dtype, tmp_path):
    load = KINDS[name][1]
    net = load(write(tmp_path / "net.safetensors", name), "cpu", dtype)
    assert same_weights(net, parts(name)[0].to(dtype))
    assert not net.training
    assert not any(weight.requires_grad for weight in net.parameters())
    assert {weight.dtype for weight in net.parameters()} == {dtype}


@pytest.mark.parametrize("name", KINDS)
def test_a_bundle_has_them_too(name, tmp_path):
    path = write_bundle(tmp_path / "bundle.safetensors", *KINDS)
    assert same_weights(KINDS[name][1](path), parts(name)[0])
    model = load_model(path)
    assert same_weights(getattr(model, name), parts(name)[0])


@pytest.mark.parametrize("names", [(), ("mmle",), ("pfj",), ("mmle", "pfj")], ids=str)
def test_a_model_has_what_its_file_has(names, tmp_path):
    model = load_model(write_bundle(tmp_path / "bundle.safetensors", *names))
    assert [name for name in KINDS if getattr(model, name) is not None] == list(names)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", ["ldm", "autoencoder", "other"])
def test_other_kinds_are_refused(name, kind, tmp_path):
    kind = {"mmle": "pfj", "pfj": "mmle"}[name] if kind == "other" else kind
    with pytest.raises(CheckpointError, match=f"holds {kind}, not {name} or bundle"):
        KINDS[name][1](write(tmp_path / "net.safetensors", name, kind))


@pytest.mark.parametrize("name", KINDS)
def test_a_bundle_without_it_is_refused(name, tmp_path):
    path = write_bundle(tmp_path / "bundle.safetensors")
    with pytest.raises(CheckpointError, match=f"a bundle file without {name}"):
        KINDS[name][1](path)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("length", [0, 100, -1])
def test_damaged_files_are_refused(name, length, tmp_path):
    path = write(tmp_path / "net.safetensors", name)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match="damaged"):
        KINDS[name][1](path)


@pytest.mark.parametrize("name", KINDS)
def test_files_of_others_and_no_files_are_refused(name, tmp_path):
    path = write(tmp_path / "net.safetensors", name)
    save_file(load_file(path), path)
    with pytest.raises(CheckpointError, match="not a weights file of this project"):
        KINDS[name][1](path)
    with pytest.raises(CheckpointError, match="does not exist"):
        KINDS[name][1](tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("mmle", {"hidden": 5}, r"mmle\.\w+.* has shape"),
        ("mmle", {"widths": (8, 16)}, r"mmle\.\*"),
        ("mmle", {"widths": 8}, "config that cannot be used"),
        ("mmle", {"colour": "red"}, "no setting colour"),
        ("mmle", {"drop": ("mmle.out.bias",)}, r"lacks 1 weights of mmle\.\*, first out\.bias"),
        ("pfj", {"width": 4}, r"pfj\.\w+.* has shape"),
        ("pfj", {"channels": (32,)}, r"pfj\.\*"),
        ("pfj", {"channels": "wide"}, "config that cannot be used"),
        ("pfj", {"mode": "xyz"}, "mode 'xyz' is unknown"),
        ("pfj", {"drop": ("pfj.conv_in.bias",)}, r"lacks 1 weights of pfj\.\*, first conv_in\.bias"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_refused_in_one_sentence(name, changes, sentence, tmp_path):
    path = write(tmp_path / "net.safetensors", name, **changes)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        KINDS[name][1](path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- Networks for another model.


def test_a_pfj_of_another_width_is_refused(tmp_path):
    model, other = tiny_model(), Pfj(PfjConfig(channels=(64, 128), width=8))
    with pytest.raises(ConfigError, match=r"PFJ is for a UNet of widths \(64, 128\), not \(32, 64\)"):
        replace(model, pfj=other)
    path = write_bundle(tmp_path / "bundle.safetensors", "pfj")
    checkpoint = load_checkpoint(path)
    tensors = {key: value for key, value in checkpoint.tensors.items() if not key.startswith("pfj.")}
    tensors |= {f"pfj.{key}": value for key, value in other.state_dict().items()}
    config = dict(checkpoint.config) | {"pfj": other.config.to_dict()}
    save_checkpoint(Checkpoint("bundle", config, tensors), path, torch.float32)
    with pytest.raises(CheckpointError, match="widths") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_a_unet_and_an_autoencoder_of_other_latents_are_refused():
    wide = Autoencoder(AutoencoderConfig(z_channels=16, channels=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    with pytest.raises(ConfigError, match=r"takes 8 channels and gives 4; latents of 16, .*, need 32 and 16"):
        replace(tiny_model(), autoencoder=wide)


def test_networks_for_other_latents_are_refused():
    model = tiny_model()
    with pytest.raises(ConfigError, match="MMLE is for latents of 16 channels, not 4"):
        replace(model, mmle=Mmle(MmleConfig(latent_channels=16, widths=(8,))))
    with pytest.raises(ConfigError, match="PFJ is for latents of 16 channels, not 4"):
        replace(model, pfj=Pfj(PfjConfig(latent_channels=16, channels=(32, 64))))
