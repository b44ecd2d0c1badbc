"""Progressive feature injection: nothing until it is trained, then Eq. 3, where the UNet's encoder levels end."""

import contextlib
import json
import math

import pytest
import torch
from torch import nn

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.nets.pfj import Pfj, PfjConfig, encoder_slots
from adadiffsr_core.nets.unet import UNet, UNetConfig
from tests.core.nets.fused import GAINS, draw
from tests.oracles import TINY_PFJ, randomise

SD = (320, 640, 1280, 1280)
# --- The network.


def test_it_is_small_enough():
    assert sum(weight.numel() for weight in Pfj(PfjConfig(channels=SD, width=160)).parameters()) <= 4.7e6
    assert sum(weight.numel() for weight in Pfj(PfjConfig()).parameters()) <= 0.05 * 5.9e6


@pytest.mark.parametrize("levels", [(32,), (32, 64, 64, 96)])
@pytest.mark.parametrize("size", [(1, 1), (5, 16), (9, 7), (16, 24)])
def test_residuals_have_the_shapes_that_the_encoder_has(size, levels):
    config = UNetConfig(model_channels=32, channel_mult=tuple(width // 32 for width in levels), num_res_blocks=2)
    net = UNet(config)
    shapes = []
    for stage in net.input_blocks:
        stage.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    # Odd sizes stop the decoder, which cannot undo their halving; the encoder is what matters.
    with contextlib.suppress(RuntimeError):
        net(draw(2, 8, *size), torch.zeros(2))
    residuals = Pfj(PfjConfig(channels=levels, width=8))(draw(2, 4, *size), GAINS[:2])
    assert [residual.shape for residual in residuals] == [shapes[slot] for slot in net.slots]


def test_untrained_it_gives_zeros():
    for residual in Pfj(TINY_PFJ)(draw(2, 4, 8, 8), torch.tensor([[1.0, -1.0], [0.0, 5e-3]])):
        assert torch.equal(residual, torch.zeros_like(residual))


def test_untrained_it_can_learn():
    net = Pfj(TINY_PFJ)
    sum(residual.sum() for residual in net(draw(2, 4, 8, 8), GAINS[:2])).backward()
    assert all(modulation.phi.weight.grad.any() for modulation in net.modulations)


def test_every_weight_matters():
    net = randomise(Pfj(TINY_PFJ)).requires_grad_(True)
    sum(residual.square().sum() for residual in net(draw(3, 4, 8, 8), GAINS)).backward()
    assert [name for name, weight in net.named_parameters() if not weight.grad.any()] == []


def test_the_modulation_is_equation_3_by_hand():
    """phi that sees nothing gives a known scale and shift for each channel."""
    net = randomise(Pfj(TINY_PFJ))
    scales, shifts = (draw(2, 64, seed=place) for place in (5, 6))
    for modulation, scale, shift, width in zip(net.modulations, scales, shifts, TINY_PFJ.channels, strict=True):
        modulation.phi.weight.zero_()
        modulation.phi.bias.copy_(torch.cat([scale[:width], shift[:width]]))
    latent = draw(1, 4, 8, 8)
    features = net.features(latent)
    for level, residual in enumerate(net(latent, GAINS[1:2])):
        project = net.modulations[level].project
        o = torch.einsum("oc,bchw->bohw", project.weight[:, :, 0, 0], features[level])
        o = o + project.bias.reshape(1, -1, 1, 1)
        scale, shift = (values[level, : o.shape[1]].reshape(1, -1, 1, 1) for values in (scales, shifts))
        torch.testing.assert_close(residual, scale * o + shift, rtol=1e-4, atol=1e-5)


def test_scale_and_shift_come_from_the_features_and_the_gain():
    """phi at one pixel, written out."""
    net = randomise(Pfj(TINY_PFJ))
    latent, gain = draw(1, 4, 6, 6), torch.tensor([[2e-3, -4e-3]])
    feature, modulation = net.features(latent)[0][0, :, 2, 3], net.modulations[0]
    scaled = torch.tensor([math.asinh(2.0), math.asinh(-4.0)])
    embedding = nn.functional.silu(net.embed.weight @ scaled + net.embed.bias)
    hidden = nn.functional.silu(feature + modulation.gain.weight @ embedding + modulation.gain.bias)
    scale, shift = (modulation.phi.weight[:, :, 0, 0] @ hidden + modulation.phi.bias).split(32)
    o = modulation.project.weight[:, :, 0, 0] @ feature + modulation.project.bias
    torch.testing.assert_close(net(latent, gain)[0][0, :, 2, 3], scale * o + shift, rtol=1e-4, atol=1e-5)


def test_gain_matters_at_every_level_and_at_the_size_that_gains_have(pfj):
    latent = draw(1, 4, 8, 8)
    without = pfj(latent, torch.zeros(1, 2))
    for which in range(2):
        for size in (5e-4, -5e-4, 0.1):
            gain = torch.zeros(1, 2)
            gain[0, which] = size
            for ours, before in zip(pfj(latent, gain), without, strict=True):
                assert (ours - before).abs().max() > 0.01 * before.std()
    largest = pfj(latent, torch.ones(1, 2))
    assert all(residual.abs().max() < 100 for residual in largest)


def test_strength_scales_residuals(pfj):
    latent = draw(3, 4, 8, 8)
    for whole, half, none in zip(pfj(latent, GAINS), pfj(latent, GAINS, 0.5), pfj(latent, GAINS, 0.0), strict=True):
        assert torch.equal(half * 2, whole)
        assert torch.equal(none, torch.zeros_like(whole))


def test_items_of_a_batch_do_not_see_each_other(pfj):
    latent = draw(3, 4, 9, 6)
    alone = [pfj(latent[i : i + 1], GAINS[i : i + 1]) for i in range(3)]
    for together, parts in zip(pfj(latent, GAINS), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(parts), rtol=0, atol=1e-5)


# --- Where the UNet takes it.


@pytest.mark.parametrize(
    ("levels", "blocks", "slots"), [(3, 1, (1, 3, 5)), (4, 2, (2, 5, 8, 11)), (1, 1, (1,)), (3, 2, (2, 5, 8))]
)
def test_slots_are_the_last_residual_blocks_of_the_levels(levels, blocks, slots):
    assert encoder_slots(levels, blocks) == slots
    net = UNet(UNetConfig(model_channels=32, channel_mult=(1,) * levels, num_res_blocks=blocks))
    assert net.slots == slots
    halving = [index for index, stage in enumerate(net.input_blocks) if hasattr(stage[0], "op")]
    assert [slot + 1 for slot in slots] == [*halving, len(net.input_blocks)]


@pytest.mark.parametrize("blocks", [1, 2])
def test_residuals_are_added_at_the_ends_of_levels_and_reach_decoder_and_next_level(blocks):
    net = randomise(UNet(UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=blocks)), 3)
    x, timesteps = draw(2, 8, 8, 12), torch.tensor([900.0, 100.0])
    residuals = [draw(2, 32, 8, 12, seed=4), draw(2, 64, 4, 6, seed=5)]
    ours = net(x, timesteps, residuals)
    hooks = [
        net.input_blocks[place].register_forward_hook(lambda module, inputs, output, added=added: output + added)
        for place, added in zip((blocks, 2 * blocks + 1), residuals, strict=True)
    ]
    assert torch.equal(net(x, timesteps), ours)
    for hook in hooks:
        hook.remove()
    plain = net(x, timesteps)
    assert (ours - plain).abs().max() > 0.1
    assert torch.equal(net(x, timesteps, [torch.zeros_like(part) for part in residuals]), plain)


def test_a_residual_too_few_is_an_error(unet):
    with pytest.raises(ValueError, match="zip"):
        unet(draw(1, 8, 4, 4), torch.zeros(1), [draw(1, 32, 4, 4)])


# --- Its config.


@pytest.mark.parametrize("config", [PfjConfig(), TINY_PFJ, PfjConfig(channels=SD, width=160)])
def test_configs_survive_json(config):
    assert PfjConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"channels": ()}, "at least 1"),
        ({"channels": (32, 0)}, "at least 1"),
        ({"width": 0}, "at least 1"),
        ({"latent_channels": 0}, "at least 1"),
        ({"gain_scale": 0.0}, "gain_scale"),
        ({"gain_scale": math.nan}, "gain_scale"),
        ({"gain_scale": math.inf}, "gain_scale"),
        ({"mode": "xyz"}, "mode 'xyz' is unknown; use one of pfj"),
        ({"mode": "cross_attention", "width": 6}, "width must be a multiple of 4 for cross_attention, got 6"),
    ],
)
def test_odd_configs_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        PfjConfig(**settings)
