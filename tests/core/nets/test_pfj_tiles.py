"""Feature injection tile by tile: each tile's own residuals, computed once and kept while there is room."""

import pytest
import torch

from adadiffsr_core.models import injection
from adadiffsr_core.models.injection import FeatureInjector
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.nets.unet import UNet
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles
from tests.core.nets.fused import GAINS, RIVALS, build, draw
from tests.oracles import TINY_PFJ, TINY_UNET, randomise


class Watched(Pfj):
    """Counts the tiles whose features it computes."""

    seen = 0

    def features(self, lq_latent):
        self.seen += len(lq_latent)
        return super().features(lq_latent)


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
