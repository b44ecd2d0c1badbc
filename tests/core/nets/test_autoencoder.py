"""The autoencoder as a network, and what its training holds its latents to."""

from pathlib import Path

import pytest
import torch

from adadiffsr_core.commands.train.autoencoder import begin_with
from adadiffsr_core.data.flat_colours import SEVEN_COLOURS, paint_flats
from adadiffsr_core.errors import CheckpointError, ConfigError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import embedded_weights
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets import autoencoder as autoencoder_module
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.training.tasks.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from adadiffsr_core.training.tasks.ldm import load_autoencoder
from adadiffsr_core.training.tasks.losses import moment_loss
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.trained import AUTOENCODER, FlatTeacher, make_bank

PHOTOS = Path(__file__).parents[3] / "photos"


def make_net(padding="replicate", z_channels=4, **more):
    torch.manual_seed(0)
    shape = {"channels": (8, 8), "encoder_blocks": (1, 1), "decoder_blocks": (1, 1)}
    net = Autoencoder(AutoencoderConfig(z_channels=z_channels, **shape, padding=padding, **more))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net.requires_grad_(False)


@pytest.mark.parametrize("colour", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 1.0)])
def test_one_colour_has_one_latent_up_to_the_picture_edge_if_borders_repeat(colour):
    image = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 48, 64)
    latent = make_net().encode(image)
    torch.testing.assert_close(latent, latent[..., :1, :1].expand_as(latent))
    zeros = make_net("zeros").encode(image)
    assert (zeros - zeros[..., 3:4, 4:5]).abs().max() > 0.01  # what repeating is for


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_blocks_give_the_values_of_the_whole(padding, monkeypatch):
    net, image = make_net(padding), torch.rand(1, 3, 160, 104)
    whole = net.encode(image)
    picture = net.decode(whole)
    monkeypatch.setattr(autoencoder_module, "BLOCK", 4)
    torch.testing.assert_close(net.encode(image), whole)
    torch.testing.assert_close(net.decode(whole), picture)


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_repeated_about_the_latents_is_cut_off_again(whole, monkeypatch):
    plain, bordered = make_net(), make_net(decoder_border=2)
    latent, wanted = torch.randn(1, 4, 5, 7), torch.zeros(5, 7, dtype=torch.bool)
    wanted[:2, 4:] = True
    expected = plain.decode(torch.nn.functional.pad(latent, (2, 2, 2, 2), mode="replicate"))[..., 16:-16, 16:-16]
    if not whole:
        monkeypatch.setattr(autoencoder_module, "BLOCK", 4)
    torch.testing.assert_close(bordered.decode(latent), expected)
    torch.testing.assert_close(bordered.decode(latent, wanted)[..., :16, 32:], expected[..., :16, 32:])


def test_with_a_border_as_wide_as_its_reach_a_decoder_paints_a_plain_colour_alike_everywhere():
    net = make_net(decoder_border=5)
    assert net.config.decoder_border >= net.config.decoder_halo
    image = net.decode(torch.randn(1, 4, 1, 1).expand(1, 4, 6, 8))
    for corner in (image[..., :8, :8], image[..., -8:, :8], image[..., -8:, -8:]):
        torch.testing.assert_close(corner, image[..., 16:24, 16:24])
    edges = make_net().decode(torch.randn(1, 4, 1, 1).expand(1, 4, 6, 8))
    assert not torch.allclose(edges[..., :8, :8], edges[..., 16:24, 16:24], atol=1e-3)


def test_a_border_below_zero_is_refused():
    with pytest.raises(ConfigError, match="decoder_border must not be negative"):
        AutoencoderConfig(decoder_border=-1)


def test_an_unknown_padding_is_refused():
    with pytest.raises(ConfigError, match="padding 'mirror' is unknown; use one of zeros, replicate"):
        AutoencoderConfig(padding="mirror")


def make_task(teacher=None, **settings):
    config = AutoencoderTaskConfig(**{"crop_px": 48, "batch_size": 4, **settings})
    bank = make_bank()
    return AutoencoderTask(AUTOENCODER, config, Examples(bank, bank), TaskSetup(Processor(), 0), teacher)


def losses_of(task, step=0):
    return next(iter(task.turns(step)))[1]


def test_the_loss_is_the_weighted_sum_of_its_parts():
    weights = {"gradient_weight": 2.0, "moments_weight": 0.5, "equivariance_weight": 0.25}
    found = losses_of(make_task(**weights))
    expected = found["l1"] + 2 * found["gradient"] + 0.5 * found["moments"]
    expected = expected + 0.25 * (found["half_l1"] + 2 * found["half_gradient"])
    torch.testing.assert_close(found["total"], expected)


def test_a_teacher_takes_the_place_of_what_holds_a_free_space():
    found = losses_of(make_task(FlatTeacher(), latent_weight=3.0))
    assert set(found) == {"total", "l1", "gradient", "latent"}
    torch.testing.assert_close(found["total"], found["l1"] + found["gradient"] + 3 * found["latent"])
    assert set(losses_of(make_task(equivariance_weight=0.0))) == {"total", "l1", "gradient", "moments"}


def test_half_of_the_latents_are_disturbed_by_up_to_the_noise_that_is_asked_for():
    task, latent = make_task(noise=0.3), torch.zeros(400, 4, 8, 8)
    spread = task._disturb(latent, torch.Generator().manual_seed(0)).flatten(1).std(dim=1)
    assert 150 < int((spread == 0).sum()) < 250
    assert 0.25 < float(spread.max()) < 0.35
    quiet = make_task(noise=0.0)
    assert torch.equal(quiet._disturb(latent, torch.Generator().manual_seed(0)), latent)


def test_moments_are_right_when_every_channel_has_zero_mean_and_unit_variance():
    latent = torch.randn(8, 4, 16, 16)
    held = (latent - latent.mean((0, 2, 3), keepdim=True)) / latent.std((0, 2, 3), keepdim=True)
    assert float(moment_loss(held)) < 1e-9
    assert float(moment_loss(held * 2)) == pytest.approx(1.0, abs=1e-4)
    assert float(moment_loss(held + 3)) == pytest.approx(9.0, abs=1e-3)


def test_flats_have_one_or_two_colours_and_leave_the_others_alone():
    image, generator = torch.rand(64, 3, 32, 32), torch.Generator().manual_seed(0)
    assert torch.equal(paint_flats(image, 0.0, generator), image)
    painted = paint_flats(image, 1.0, generator)
    counts = [len(one.flatten(1).unique(dim=1).T) for one in painted]
    assert set(counts) == {1, 2}
    corners = ((painted == 0) | (painted == 1)).all(dim=1).float().mean()
    assert 0.4 < float(corners) < 0.8
    half = paint_flats(image, 0.5, torch.Generator().manual_seed(1))
    assert 16 < sum(torch.equal(a, b) for a, b in zip(half, image, strict=True)) < 48


def save(net, path):
    tensors = {f"first_stage_model.{key}": value for key, value in net.state_dict().items()}
    save_checkpoint(Checkpoint("autoencoder", {"autoencoder": net.config.to_dict()}, tensors), path, torch.float32)
    return load_checkpoint(path)


@pytest.mark.parametrize("channels", [2, 4, 16])
def test_weights_of_another_number_of_channels_are_a_beginning(tmp_path, channels):
    source, image = make_net(z_channels=4), torch.rand(1, 3, 48, 48)
    start, net = save(source, tmp_path / "a.safetensors"), make_net(z_channels=channels)
    begin_with(net, start)
    shared = min(4, channels)
    torch.testing.assert_close(net.encode(image)[:, :shared], source.encode(image)[:, :shared])
    if channels >= 4:  # and what the other channels hold is not looked at where they are nothing
        latent = source.encode(image)
        padded = torch.cat([latent, latent.new_zeros(1, channels - 4, 6, 6)], dim=1)
        torch.testing.assert_close(net.decode(padded), source.decode(latent))


def test_weights_of_another_shape_are_no_beginning(tmp_path):
    start = save(make_net(), tmp_path / "a.safetensors")
    wider = Autoencoder(AutoencoderConfig(channels=(16, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    with pytest.raises(CheckpointError, match="has shape"):
        begin_with(wider, start)


@pytest.fixture(scope="module")
def embedded():
    return load_autoencoder(embedded_weights()).requires_grad_(False)


def test_the_embedded_autoencoder_loses_little_of_a_photograph(embedded):
    photo = read_photo(PHOTOS / "cat.jpg").pixels[None]
    photo = photo[..., : photo.shape[-2] // 8 * 8, : photo.shape[-1] // 8 * 8]
    made = embedded.decode(embedded.encode(photo))
    assert float(-10 * (made - photo).square().mean().log10()) > 31


@pytest.mark.parametrize("colour", SEVEN_COLOURS)
def test_the_embedded_autoencoder_leaves_a_plain_colour_plain_up_to_the_edges(embedded, colour):
    image = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 64, 96)
    made = embedded.decode(embedded.encode(image)).clamp(0, 1)
    assert float((made - image).abs().max()) * 255 < 4
