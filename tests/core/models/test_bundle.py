"""Joining separately trained networks: the bundle holds what its parts held."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from adadiffsr_core.data.photo_files import load_image
from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.latent_colours import SD_COLOURS, LatentColours
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_mmle, load_pfj
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.training.tasks.latent_colours import RoughDecoder
from adadiffsr_core.training.tasks.ldm import save_ldm
from scripts.assemble_bundle import assemble
from tests.oracles import TINY_MMLE, TINY_PFJ, randomise, tiny_model

PHOTOS = Path(__file__).resolve().parents[3] / "photos"


@pytest.fixture
def parts(tmp_path):
    model = tiny_model()
    paths = [tmp_path / f"{kind}.safetensors" for kind in ("ldm", "mmle", "pfj")]
    save_ldm(model.unet, model.autoencoder, model.schedule, paths[0], {"steps": 3})
    for path, net in zip(paths[1:], (Mmle(TINY_MMLE), Pfj(TINY_PFJ)), strict=True):
        tensors = {f"{path.stem}.{key}": value for key, value in randomise(net, 5).state_dict().items()}
        save_checkpoint(Checkpoint(path.stem, {path.stem: net.config.to_dict()}, tensors, {"seed": 7}), path)
    return paths


def test_a_bundle_holds_its_parts(parts, tmp_path):
    out = tmp_path / "bundle.safetensors"
    assemble(parts, out)
    whole = load_checkpoint(out, "bundle")
    assert dict(whole.facts) == {
        kind: dict(load_checkpoint(path, kind).facts) for kind, path in zip(("ldm", "mmle", "pfj"), parts, strict=True)
    }
    for path in parts:
        for key, value in load_checkpoint(path, path.stem).tensors.items():
            assert torch.equal(whole.tensors[key], value)
    assert "preview" not in whole.config
    model, alone = load_model(out), load_model(parts[0])
    for loaded, expected in (
        (model.unet, alone.unet),
        (model.autoencoder, alone.autoencoder),
        (load_mmle(out), load_mmle(parts[1])),
        (model.pfj, load_pfj(parts[2])),
    ):
        state = loaded.state_dict()
        assert state.keys() == expected.state_dict().keys()
        assert all(torch.equal(state[key], value) for key, value in expected.state_dict().items())


def save_autoencoder(model, path):
    tensors = {f"first_stage_model.{key}": value for key, value in model.autoencoder.state_dict().items()}
    config = {"autoencoder": {**model.autoencoder.config.to_dict(), "decoder_border": 1}}
    save_checkpoint(Checkpoint("autoencoder", config, tensors, {"steps": 4}), path)
    return path


def test_a_decoder_that_was_trained_on_takes_the_place_of_the_models(parts, tmp_path):
    model, out = tiny_model(), tmp_path / "bundle.safetensors"
    with torch.no_grad():
        model.autoencoder.decoder.conv_in.bias += 1
    assemble([save_autoencoder(model, tmp_path / "autoencoder.safetensors"), *parts], out)
    decoder = load_model(out).autoencoder
    assert decoder.config.decoder_border == 1
    assert torch.equal(decoder.decoder.conv_in.bias, model.autoencoder.decoder.conv_in.bias.half().float())
    assert load_checkpoint(out, "bundle").facts["autoencoder"] == {"steps": 4}


def test_an_autoencoder_with_another_encoder_is_refused(parts, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.autoencoder.encoder.conv_in.bias += 1
    with pytest.raises(ConfigError, match="encodes otherwise"):
        assemble(
            [*parts, save_autoencoder(model, tmp_path / "autoencoder.safetensors")], tmp_path / "bundle.safetensors"
        )


def test_two_of_a_kind_are_refused(parts, tmp_path):
    with pytest.raises(ConfigError, match="two files hold mmle"):
        assemble([parts[1], parts[0], parts[1]], tmp_path / "bundle.safetensors")
    assert not (tmp_path / "bundle.safetensors").exists()


def test_a_bundle_learns_the_colours_of_its_latents(parts, tmp_path):
    plain, coloured = tmp_path / "plain.safetensors", tmp_path / "coloured.safetensors"
    assemble(parts, plain)
    assemble(parts, coloured, PHOTOS)
    found, alike = load_checkpoint(coloured), load_checkpoint(plain)
    colours = LatentColours.from_dict(found.config["preview"])
    assert {name: value for name, value in found.config.items() if name != "preview"} == alike.config
    model = load_model(coloured)
    image = torch.from_numpy(load_image(PHOTOS / "coffee.jpg")[:256, :256]).permute(2, 0, 1)[None] / 255
    latent, wanted = model.encode(image), F.avg_pool2d(image, 8) * 2 - 1
    made = (
        torch.einsum("nchw,ck->nkhw", latent, torch.tensor(colours.factors)) + torch.tensor(colours.bias)[:, None, None]
    )
    # Whatever random weights keep of the colours; for a trained autoencoder it is nearly all.
    assert (made - wanted).square().mean() < 0.8 * wanted.var()


def test_colours_need_a_diffusion_model_and_photographs(parts, tmp_path):
    out = tmp_path / "bundle.safetensors"
    with pytest.raises(ConfigError, match="name its file too"):
        assemble(parts[1:], out, PHOTOS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdaDiffSRError, match=r"photograph|picture|image"):
        assemble(parts, out, tmp_path / "empty")
    assert not out.exists()


def test_a_rough_decoder_paints_the_colours_in_squares():
    latent = torch.randn(2, 4, 3, 5)
    picture = RoughDecoder(SD_COLOURS).decode(latent)
    assert picture.shape == (2, 3, 24, 40)
    red = sum(latent[1, c, 2, 4] * SD_COLOURS.factors[c][0] for c in range(4)) + SD_COLOURS.bias[0]
    torch.testing.assert_close(picture[1, 0, 16:, 32:], ((red + 1) / 2).expand(8, 8))
