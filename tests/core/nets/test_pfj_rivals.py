"""The rivals of Eq. 3, concatenation and cross-attention: nothing until they are trained, then each by hand."""

import pytest
import torch

from adadiffsr_core.nets.fusion import HEADS
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from tests.core.nets.fused import GAINS, MODES, RIVALS, build, draw
from tests.oracles import randomise

OWN = (draw(3, 32, 9, 6, seed=11), draw(3, 64, 5, 3, seed=12))


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
