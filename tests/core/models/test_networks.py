"""The networks: LDM's key names, blocks that equal the whole, and items that do not see each other."""

import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.nets import autoencoder as module
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.blocks import BlockMap
from adadiffsr_core.nets.unet import UNet, UNetConfig, timestep_embedding
from tests.oracles import TINY_AUTOENCODER, TINY_UNET, randomise


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet():
    net = UNet(TINY_UNET)
    randomise(net)
    return net


@pytest.fixture(scope="module")
def autoencoder():
    net = Autoencoder(TINY_AUTOENCODER)
    randomise(net)
    return net


def test_unet_keys_are_ldms():
    keys = UNet(UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=2)).state_dict()
    for key, shape in {
        "time_embed.0.weight": (128, 32),
        "time_embed.2.bias": (128,),
        "input_blocks.0.0.weight": (32, 8, 3, 3),
        "input_blocks.1.0.in_layers.0.weight": (32,),
        "input_blocks.1.0.in_layers.2.weight": (32, 32, 3, 3),
        "input_blocks.1.0.emb_layers.1.weight": (32, 128),
        "input_blocks.1.0.out_layers.0.bias": (32,),
        "input_blocks.1.0.out_layers.3.weight": (32, 32, 3, 3),
        "input_blocks.3.0.op.weight": (32, 32, 3, 3),
        "input_blocks.4.0.skip_connection.weight": (64, 32, 1, 1),
        "middle_block.0.in_layers.2.weight": (64, 64, 3, 3),
        "output_blocks.0.0.in_layers.2.weight": (64, 128, 3, 3),
        "output_blocks.2.0.skip_connection.weight": (64, 96, 1, 1),
        "output_blocks.2.1.conv.weight": (64, 64, 3, 3),
        "output_blocks.5.0.in_layers.2.weight": (32, 64, 3, 3),
        "out.0.weight": (32,),
        "out.2.weight": (4, 32, 3, 3),
    }.items():
        assert tuple(keys[key].shape) == shape, key
    assert {key.split(".")[0] for key in keys} == {"time_embed", "input_blocks", "middle_block", "output_blocks", "out"}
    assert not any("output_blocks.6" in key or "input_blocks.6" in key for key in keys)


def test_autoencoder_keys_are_ldms(autoencoder):
    keys = autoencoder.state_dict().keys()
    assert {
        "encoder.conv_in.weight",
        "encoder.down.0.block.0.conv1.weight",
        "encoder.down.0.downsample.conv.weight",
        "encoder.conv_out.bias",
        "decoder.conv_in.weight",
        "decoder.up.1.block.0.conv2.bias",
        "decoder.up.1.upsample.conv.weight",
        "decoder.conv_out.weight",
    } <= keys


def test_timestep_embedding_is_ldms():
    embedding = timestep_embedding(torch.tensor([0.0, 1.0, 999.0]), 32)
    for row, timestep in enumerate((0, 1, 999)):
        angles = [timestep * 10_000 ** (-i / 16) for i in range(16)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        assert embedding[row].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_new_unet_predicts_zero_and_a_trained_one_uses_all_it_is_given(unet):
    x, timesteps = draw(2, 8, 8, 12), torch.tensor([900.0, 100.0])
    assert UNet(TINY_UNET)(x, timesteps).abs().max() == 0
    output = unet(x, timesteps)
    assert output.shape == (2, 4, 8, 12)
    assert (output - unet(x, timesteps.flip(0))).abs().max() > 1e-3
    for channel in range(8):
        changed = x.clone()
        changed[:, channel] += 1
        assert (output - unet(changed, timesteps)).abs().max() > 1e-3


def test_every_weight_of_the_unet_matters():
    net = UNet(TINY_UNET)
    randomise(net)
    net.requires_grad_(True)
    net(draw(2, 8, 8, 8), torch.tensor([900.0, 100.0])).square().sum().backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_items_of_a_batch_do_not_see_each_other(unet):
    x, timesteps = draw(5, 8, 8, 8), torch.tensor([999.0, 0.0, 500.0, 20.0, 700.0])
    alone = torch.cat([unet(x[i : i + 1], timesteps[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(unet(x, timesteps), alone, rtol=1e-4, atol=1e-5)


def test_multiple_is_what_the_unet_needs():
    for channel_mult, multiple in (((1,), 1), ((1, 2), 2), ((1, 2, 3), 4)):
        config = UNetConfig(model_channels=32, channel_mult=channel_mult, num_res_blocks=1)
        assert config.multiple == multiple
        assert UNet(config)(draw(1, 8, multiple, 3 * multiple), torch.zeros(1)).shape == (1, 4, multiple, 3 * multiple)


@pytest.mark.parametrize(
    "settings",
    [
        {"model_channels": 48},
        {"model_channels": 0},
        {"model_channels": -32},
        {"channel_mult": (1, 0)},
        {"num_res_blocks": 0},
        {"in_channels": 0},
        {"channel_mult": ()},
    ],
)
def test_odd_unets_are_refused(settings):
    with pytest.raises(ConfigError, match=r"model_channels|at least 1"):
        UNetConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": (64,)},
        {"encoder_blocks": (1, 2, 3)},
        {"channels": (), "encoder_blocks": (), "decoder_blocks": ()},
        {"channels": (64, 0)},
        {"patch": 0},
    ],
)
def test_odd_autoencoders_are_refused(settings):
    with pytest.raises(ConfigError, match=r"one number for each level|at least 1"):
        AutoencoderConfig(**settings)


@pytest.mark.parametrize("config", [TINY_UNET, UNetConfig(), TINY_AUTOENCODER, AutoencoderConfig()])
def test_configs_survive_json(config):
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in config.to_dict().items()}
    assert type(config).from_dict(values) == config


# --- Blocks.

SIZES = [(1, 1), (3, 17), (16, 16), (9, 23), (37, 5)]


def test_factor_is_the_change_of_size(autoencoder):
    assert TINY_AUTOENCODER.factor == 8
    latent = autoencoder.encode(draw(2, 3, 16, 40))
    assert latent.shape == (2, 4, 2, 5)
    assert autoencoder.decode(latent).shape == (2, 3, 16, 40)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", [TINY_AUTOENCODER, AutoencoderConfig(channels=(8, 16))], ids=["small", "deep"])
def test_encoding_and_decoding_by_blocks_is_doing_it_at_once(config, size, monkeypatch):
    net = Autoencoder(config)
    randomise(net)
    image, latent = draw(1, 3, 8 * size[0], 8 * size[1]).sigmoid(), draw(1, 4, *size)
    whole = net.encode(image), net.decode(latent)
    monkeypatch.setattr(module, "BLOCK", 6)
    torch.testing.assert_close(net.encode(image), whole[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(net.decode(latent), whole[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_the_reach_is_how_far_the_network_sees(direction, autoencoder):
    """A change moves nothing beyond the reach, so the halo suffices; and it does move something near it."""
    side, square = 17, slice(8 * 8, 9 * 8)  # the latent pixel in the middle, in image px
    if direction == "encode":
        before, reach = draw(1, 3, side * 8, side * 8).sigmoid(), autoencoder.config.encoder_reach
        place, unit = square, 8
    else:
        before, reach = draw(1, 4, side, side), autoencoder.config.decoder_reach
        place, unit = slice(8, 9), 1
    after = before.clone()
    after[..., place, place] += 1
    run = getattr(autoencoder, direction)
    moved = torch.nonzero((run(after) - run(before)).abs().amax(dim=(0, 1)) > 0) * unit
    # From the square to the nearest pixel of what moved, a latent pixel being `unit` wide.
    distance = int(torch.maximum(square.start - (moved + unit - 1), moved - (square.stop - 1)).max())
    assert reach - 8 < distance <= reach


def test_without_a_halo_blocks_show(autoencoder):
    latent = draw(1, 4, 12, 12)
    blocks = BlockMap(autoencoder._decode, tuple(latent.shape[-2:]), 6, 0, Fraction(8, 1)).map_image(latent)
    assert (blocks - autoencoder.decode(latent)).abs().max() > 1e-3


def test_map_blocks_never_asks_for_more_than_a_block_and_its_halo():
    seen = []

    def double(part):
        seen.append(tuple(part.shape[-2:]))
        return nn.functional.interpolate(part, scale_factor=2.0)

    image = draw(2, 3, 23, 10)
    result = BlockMap(double, tuple(image.shape[-2:]), 6, 2, Fraction(2, 1)).map_image(image)
    assert torch.equal(result, double(image))
    assert len(seen) == 4 * 2 + 1
    assert max(max(shape) for shape in seen[:-1]) <= 6 + 2 * 2


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="without pixels"):
        BlockMap(lambda part: part, (0, 8), 8, 0, Fraction(1, 1)).map_image(torch.zeros(1, 3, 0, 8))


def test_decoding_survives_latents_far_outside_the_data(autoencoder):
    assert autoencoder.decode(draw(1, 4, 4, 4) * 1e4).abs().max() < 100


def test_what_is_not_wanted_is_not_computed_and_the_rest_is_the_same():
    image = torch.rand(1, 1, 40, 40)
    wanted, seen = torch.zeros(20, 20, dtype=torch.bool), []
    wanted[3, 4], wanted[5, 8], wanted[19, 19] = True, True, True

    def halve(part):
        seen.append(tuple(part.shape[-2:]))
        return torch.nn.functional.avg_pool2d(part, 2)

    found = BlockMap(halve, tuple(image.shape[-2:]), 20, 2, Fraction(1, 2)).map_image(image, wanted)
    assert seen == [(10, 14), (4, 4)]
    assert torch.equal(found[..., 3:6, 4:9], halve(image)[..., 3:6, 4:9])
    assert found[..., 19, 19] == halve(image)[..., 19, 19]
    assert found.count_nonzero() == 3 * 5 + 1
    with pytest.raises(ShapeError, match="wanted"):
        BlockMap(halve, tuple(image.shape[-2:]), 20, 2, Fraction(1, 2)).map_image(image, wanted & False)
