"""Progressive feature injection: nothing until it is trained, then Eq. 3, where the UNet's encoder levels end."""

import contextlib
import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models import injection
from adadiffsr_core.models.injection import FeatureInjector
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.fusion import HEADS
from adadiffsr_core.nets.pfj import Pfj, PfjConfig, encoder_slots
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles
from tests.oracles import TINY_PFJ, TINY_UNET, randomise

SD = (320, 640, 1280, 1280)
GAINS = torch.tensor([[0.0, 0.0], [1e-3, -1e-3], [5e-3, 2e-3]])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pfj():
    return randomise(Pfj(TINY_PFJ))


@pytest.fixture(scope="module")
def unet():
    return randomise(UNet(TINY_UNET), 1)


class Watched(Pfj):
    """Counts the tiles whose features it computes."""

    seen = 0

    def features(self, lq_latent):
        self.seen += len(lq_latent)
        return super().features(lq_latent)


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


# --- Its rivals.

RIVALS = ("concat", "cross_attention")
MODES = ("pfj", *RIVALS)
OWN = (draw(3, 32, 9, 6, seed=11), draw(3, 64, 5, 3, seed=12))


def build(mode):
    return Pfj(replace(TINY_PFJ, mode=mode))


def settle(residuals, own=OWN):
    """Tensors, of the levels' own features where need be."""
    return [part if isinstance(part, torch.Tensor) else part(level) for part, level in zip(residuals, own, strict=True)]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_starts_as_nothing_and_can_learn(mode):
    net = build(mode)
    residuals = settle(net(draw(3, 4, 9, 6), GAINS))
    assert [part.shape for part in residuals] == [level.shape for level in OWN]
    assert not any(part.any() for part in residuals)
    sum(part.sum() for part in residuals).backward()
    assert sum(bool(weight.grad is not None and weight.grad.any()) for weight in net.parameters()) >= 2 * len(OWN)


@pytest.mark.parametrize("mode", MODES)
def test_every_weight_of_every_mode_matters(mode):
    net = randomise(build(mode)).requires_grad_(True)
    sum(part.square().sum() for part in settle(net(draw(3, 4, 9, 6), GAINS))).backward()
    assert [name for name, weight in net.named_parameters() if not weight.grad.any()] == []


@pytest.mark.parametrize("mode", RIVALS)
def test_rivals_see_the_level_and_the_picture_but_not_the_gain(mode):
    net, latent = randomise(build(mode)), draw(3, 4, 9, 6)
    plain = settle(net(latent, GAINS))
    for one, other in zip(plain, settle(net(latent, GAINS + 0.5)), strict=True):
        assert torch.equal(one, other)
    moved = settle(net(latent, GAINS), [level + draw(*level.shape, seed=3) for level in OWN])
    for changed in (moved, settle(net(latent + draw(3, 4, 9, 6, seed=4), GAINS))):
        assert all((one - other).abs().max() > 0.05 * one.std() for one, other in zip(plain, changed, strict=True))
    assert not net.config.sees_gain
    assert not [name for name in net.state_dict() if "embed" in name]


@pytest.mark.parametrize("mode", RIVALS)
def test_strength_scales_the_rivals_too(mode):
    net, latent = randomise(build(mode)), draw(3, 4, 9, 6)
    whole, half, none = (settle(net(latent, GAINS, strength)) for strength in (1.0, 0.5, 0.0))
    for one, part, zero in zip(whole, half, none, strict=True):
        assert one.abs().max() > 0.01
        assert torch.equal(part * 2, one)
        assert torch.equal(zero, torch.zeros_like(one))


@pytest.mark.parametrize("mode", RIVALS)
def test_items_of_a_rivals_batch_do_not_see_each_other(mode):
    net, latent = randomise(build(mode)), draw(3, 4, 9, 6)
    alone = [settle(net(latent[i : i + 1], GAINS[i : i + 1]), [level[i : i + 1] for level in OWN]) for i in range(3)]
    for together, parts in zip(settle(net(latent, GAINS)), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(together, torch.cat(parts), rtol=0, atol=1e-5)


def test_concatenation_is_a_linear_map_of_both_at_one_place():
    net = randomise(build("concat"))
    latent = draw(3, 4, 9, 6)
    feature, project = net.features(latent)[1][2, :, 3, 1], net.modulations[1].project
    expected = project.weight[:, :, 0, 0] @ torch.cat([feature, OWN[1][2, :, 3, 1]]) + project.bias
    torch.testing.assert_close(settle(net(latent, GAINS))[1][2, :, 3, 1], expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_by_hand():
    """One place of one item, head by head, in plain sums."""
    net = randomise(build("cross_attention"))
    latent, level = draw(3, 4, 9, 6), net.modulations[1]
    feature, own = net.features(latent)[1][2].flatten(1), OWN[1][2]
    normed = (own - own.mean()) / (own.var(correction=0) + 1e-5).sqrt()
    normed = normed * level.norm.weight[:, None, None] + level.norm.bias[:, None, None]
    query = level.query.weight[:, :, 0, 0] @ normed[:, 3, 1] + level.query.bias
    key, value = (level.key_value.weight[:, :, 0, 0] @ feature + level.key_value.bias[:, None]).split(8)
    seen = []
    for head in range(HEADS):
        rows = slice(2 * head, 2 * head + 2)
        seen.append(value[rows] @ torch.softmax(query[rows] @ key[rows] / 2**0.5, dim=0))
    expected = level.out.weight[:, :, 0, 0] @ torch.cat(seen) + level.out.bias
    torch.testing.assert_close(settle(net(latent, GAINS))[1][2, :, 3, 1], expected, rtol=1e-4, atol=1e-5)


def test_rivals_are_as_large_as_pfj():
    sizes = [sum(weight.numel() for weight in Pfj(PfjConfig(mode=mode)).parameters()) for mode in MODES]
    assert max(sizes) < 1.06 * sizes[0]
    assert min(sizes) > 0.94 * sizes[0]


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


# --- Tile by tile.


GRID = build_grid(20, 20, 8, 2, 2)


def ask(denoiser, tiles=(3, 0, 7), gain=GAINS):
    x = draw(len(tiles), 4, 8, 8, seed=9)
    return denoiser(x, torch.linspace(0.1, 9, len(tiles)), list(tiles), gain)


@pytest.fixture(scope="module")
def lq_latent():
    return draw(1, 4, *GRID.padded, seed=8)


def test_the_denoiser_adds_each_tiles_own_residuals(unet, pfj, lq_latent):
    ours = ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, pfj, 0.7))
    residuals = pfj(crop_tiles(lq_latent, GRID, [3, 0, 7]), GAINS)
    hooks = [
        unet.input_blocks[place].register_forward_hook(lambda module, inputs, output, added=added: output + 0.7 * added)
        for place, added in zip((1, 3), residuals, strict=True)
    ]
    expected = ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    assert (ours - ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID))).abs().max() > 0.01


def test_an_untrained_pfj_and_strength_0_change_no_bit(unet, pfj, lq_latent):
    plain = ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID))
    assert torch.equal(ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, Pfj(TINY_PFJ))), plain)
    assert torch.equal(ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, pfj, 0.0)), plain)


@pytest.mark.parametrize("mode", RIVALS)
def test_the_denoiser_takes_rivals_in_every_precision(unet, lq_latent, mode):
    plain = ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID))
    assert torch.equal(ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, build(mode))), plain)
    net = randomise(build(mode))
    exact = ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, net))
    assert (exact - plain).abs().max() > 0.01
    residuals = net(crop_tiles(lq_latent, GRID, [3, 0, 7]), GAINS)
    hooks = [
        unet.input_blocks[place].register_forward_hook(lambda module, inputs, output, fuse=fuse: output + fuse(output))
        for place, fuse in zip((1, 3), residuals, strict=True)
    ]
    torch.testing.assert_close(ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID)), exact, rtol=0, atol=1e-4)
    for hook in hooks:
        hook.remove()
    coarse = randomise(UNet(TINY_UNET), 1).bfloat16()
    small = randomise(build(mode)).bfloat16()
    for pair in ((coarse, net), (coarse, small), (unet, small)):
        near = ask(UNetDenoiser(pair[0], Schedule(), lq_latent, GRID, pair[1]))
        assert (near - exact).square().mean().sqrt() < 0.1 * exact.std()


def test_at_strength_0_nothing_is_computed(unet, lq_latent):
    net = randomise(Watched(TINY_PFJ))
    ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, net, 0.0))
    assert net.seen == 0


def test_gain_changes_what_the_denoiser_says_and_none_is_no_gain(unet, pfj, lq_latent):
    denoiser = UNetDenoiser(unet, Schedule(), lq_latent, GRID, pfj)
    assert (ask(denoiser, gain=GAINS) - ask(denoiser, gain=GAINS + 1e-3)).abs().max() > 1e-3
    assert torch.equal(ask(denoiser, gain=None), ask(denoiser, gain=torch.zeros(3, 2)))


def test_networks_in_half_precision_take_each_other(unet, pfj, lq_latent):
    coarse = [randomise(UNet(TINY_UNET), 1).bfloat16(), randomise(Pfj(TINY_PFJ)).bfloat16()]
    near = ask(UNetDenoiser(coarse[0], Schedule(), lq_latent, GRID, coarse[1]))
    exact = ask(UNetDenoiser(unet, Schedule(), lq_latent, GRID, pfj))
    assert near.dtype == torch.float32
    assert (near - exact).square().mean().sqrt() < 0.1 * exact.std()
    mixed = ask(UNetDenoiser(coarse[0], Schedule(), lq_latent, GRID, pfj))
    assert (mixed - exact).square().mean().sqrt() < 0.1 * exact.std()


def test_features_are_computed_once_per_tile(lq_latent):
    net = randomise(Watched(TINY_PFJ))
    inject = FeatureInjector(net, lq_latent, GRID)
    for tiles in ([0, 1, 2], [2, 0], [3], [1, 3, 0]):
        inject(tiles, None)
    assert net.seen == 4


@pytest.mark.parametrize("kept", [1, 2, 5])
def test_only_so_many_tiles_are_kept_and_the_others_come_back_the_same(kept, pfj, lq_latent, monkeypatch):
    net = randomise(Watched(TINY_PFJ))
    monkeypatch.setattr(injection, "KEPT_TILES", kept)
    inject = FeatureInjector(net, lq_latent, GRID)
    for tiles in ([0, 1, 2], [4], [2, 0, 8], [5, 5, 6]):
        residuals = inject(tiles, GAINS[: len(tiles)])
        expected = pfj(crop_tiles(lq_latent, GRID, tiles), GAINS[: len(tiles)])
        for ours, theirs in zip(residuals, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        assert len(inject._kept) <= kept
    assert net.seen == {1: 9, 2: 8, 5: 7}[kept]


def test_the_tiles_used_last_are_the_ones_kept(lq_latent, monkeypatch):
    net = randomise(Watched(TINY_PFJ))
    monkeypatch.setattr(injection, "KEPT_TILES", 2)
    inject = FeatureInjector(net, lq_latent, GRID)
    for tile in (0, 1, 0, 2, 0):
        inject([tile], None)
    assert net.seen == 3


def test_what_is_kept_is_no_view_of_a_batch(pfj, lq_latent):
    inject = FeatureInjector(pfj, lq_latent, GRID)
    inject([0, 1, 2], None)
    for levels in inject._kept.values():
        assert all(level.untyped_storage().nbytes() == level.numel() * 4 for level in levels)


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
