"""The MMLE regressor: its bounds, what it must see, and what its estimator makes of it (Eq. 2)."""

import json
import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.metrics.registry import metric_info
from adadiffsr_core.nets.mmle import Mmle, MmleConfig, sigma_embedding
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from tests.oracles import randomise

SMALL = MmleConfig(widths=(8, 16), hidden=12)
SIGMAS = torch.tensor([1e-3, 0.03, 0.5, 1.0, 14.6, 400.0])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def mmle():
    return randomise(Mmle(SMALL))


def test_it_is_small_enough():
    assert 1e6 < sum(weight.numel() for weight in Mmle(MmleConfig()).parameters()) <= 2.2e6


def count_flops(function, *inputs):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        function(*inputs)
    return counter.get_total_flops()


def test_both_small_networks_together_cost_little_beside_the_embedded_unet():
    latent, sigma, gain = draw(1, 4, 64, 64), torch.ones(1), torch.zeros(1, 2)
    unet = count_flops(UNet(UNetConfig(num_res_blocks=1)), torch.cat([latent, latent], dim=1), sigma)
    mmle = count_flops(Mmle(MmleConfig()), latent, latent, sigma)
    pfj = count_flops(Pfj(PfjConfig()), latent, gain)  # features too, as if they were never kept
    assert 0.02 < (mmle + pfj) / unet <= 0.15
    assert mmle / unet <= 0.07


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (9, 16), (17, 17)])
def test_any_size_goes(size, mmle):
    values = mmle(draw(3, 4, *size), draw(3, 4, *size, seed=1), SIGMAS[:3])
    assert values.shape == (3, 6)
    assert values.dtype == torch.float32
    assert values.isfinite().all()


@pytest.mark.parametrize("spread", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("sigma", [0.0, 1e-3, 1.0, 14.6, 1e6, math.inf])
def test_values_are_between_0_and_1_whatever_it_is_shown(sigma, spread):
    net = randomise(Mmle(MmleConfig()))
    values = net(draw(2, 4, 8, 8) * spread, draw(2, 4, 8, 8, seed=1) * spread, torch.full((2,), sigma))
    assert ((values >= 0) & (values <= 1)).all()


def test_items_of_a_batch_do_not_see_each_other(mmle):
    denoised, lq = draw(6, 4, 9, 12), draw(6, 4, 9, 12, seed=1)
    alone = torch.cat([mmle(denoised[i : i + 1], lq[i : i + 1], SIGMAS[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(mmle(denoised, lq, SIGMAS), alone, rtol=0, atol=1e-6)
    assert alone.std(dim=0).min() > 1e-3


@pytest.mark.parametrize("count", [3, 8, 9, 17, 24])
@pytest.mark.parametrize("hidden", [6, 32])
def test_the_bits_of_an_item_do_not_hang_on_its_place_in_the_batch(count, hidden):
    """What does not fill a processor's vectors is computed by other instructions: the last few of many values."""
    net = randomise(Mmle(MmleConfig(widths=(8,), hidden=hidden, difficulty=True)), 3)
    for seed in range(20):
        shown = [draw(1, 4, 8, 8, seed=2 * seed + part).expand(count, -1, -1, -1).contiguous() for part in (0, 1)]
        with torch.inference_mode():
            told = net(*shown, torch.full((count,), 0.7 + seed))
        assert torch.equal(told, told[:1].expand_as(told))


def test_every_weight_matters():
    net = randomise(Mmle(SMALL)).requires_grad_(True)
    net(draw(2, 4, 8, 8), draw(2, 4, 8, 8, seed=1), SIGMAS[2:4]).square().sum().backward()
    assert [name for name, weight in net.named_parameters() if not weight.grad.any()] == []


def test_each_latent_channel_and_the_level_matter(mmle):
    latents = draw(2, 1, 4, 8, 8)
    before = mmle(*latents, SIGMAS[:1])
    for which in range(2):
        for channel in range(4):
            changed = latents.clone()
            changed[which, :, channel] += 1
            assert (mmle(*changed, SIGMAS[:1]) - before).abs().max() > 1e-4
    for sigma in SIGMAS[1:]:
        assert (mmle(*latents, sigma[None]) - before).abs().max() > 1e-4


def test_levels_are_told_apart_by_their_ratio_alone():
    """Neighbours of a schedule differ alike at either end, so flow's levels up to 1 are as good as diffusion's."""
    low, high = (sigma_embedding(torch.tensor([level, level * 1.3])) for level in (0.02, 12.0))
    assert (low[0] - low[1]).norm() > 1
    torch.testing.assert_close((low[0] - low[1]).norm(), (high[0] - high[1]).norm(), rtol=1e-4, atol=0)


def test_half_precision_does_not_round_gains_away(mmle):
    latents = draw(2, 8, 4, 32, 32)
    sigma = torch.linspace(0.1, 10, 8)
    exact = mmle(*latents, sigma)
    near = MmleEstimator(randomise(Mmle(SMALL)).bfloat16())
    values = near.mmle(*latents.bfloat16(), sigma)
    assert values.dtype == torch.float32
    assert (values - exact).abs().max() < 0.01
    assert (values != values.bfloat16().float()).float().mean() > 0.9
    assert near.quality(*latents, sigma).dtype == torch.float32


# --- The estimator.


def test_quality_is_equation_2_by_hand():
    config = MmleConfig(
        widths=(8,),
        hidden=4,
        fr_metrics=("psnr", "nlpd", "lpips"),
        nr_metrics=("musiq", "niqe"),
        fr_weights=(2.0, 1.0, 1.0),
        nr_weights=(1.0, 3.0),
        worst=(0.0, 1.0, 1.0, 0.0, 20.0),
        best=(50.0, 0.0, 0.0, 100.0, 0.0),
    )
    net = randomise(Mmle(config))
    metrics = torch.tensor([0.9, 0.1, 0.3, 0.6, 0.2])
    net.out.weight.zero_()
    net.out.bias.copy_(torch.logit(metrics))
    quality = MmleEstimator(net).quality(draw(3, 4, 5, 5), draw(3, 4, 5, 5), SIGMAS[:3])
    by_hand = [(2 * 0.9 + 0.1 + 0.3) / 4, (0.6 + 3 * 0.2) / 4]
    torch.testing.assert_close(quality, torch.tensor([by_hand] * 3))


def test_the_estimator_hands_on_what_the_network_says(mmle):
    latents = draw(2, 3, 4, 8, 8)
    values = mmle(*latents, SIGMAS[1:4])
    quality = MmleEstimator(mmle).quality(*latents, SIGMAS[1:4])
    expected = torch.stack([values[:, :4].mean(dim=1), values[:, 4:].mean(dim=1)], dim=1)
    torch.testing.assert_close(quality, expected)
    assert quality.shape == LatentStatistics().quality(*latents, SIGMAS[1:4]).shape


def test_training_can_go_through_the_network_but_not_through_the_estimator():
    net = Mmle(SMALL)
    latents = draw(2, 1, 4, 8, 8)
    assert net(*latents, SIGMAS[:1]).requires_grad
    assert not MmleEstimator(net).quality(*latents, SIGMAS[:1]).requires_grad


# --- Its config.


def test_defaults_are_the_papers_metrics_in_their_usual_ranges():
    config = MmleConfig()
    infos = [metric_info(name) for name in config.metrics]
    assert config.metrics == ("psnr", "lpips", "ahiq", "nlpd", "brisque", "musiq")
    assert [info.needs_reference for info in infos] == [True] * 4 + [False] * 2
    assert config.worst == tuple(info.worst for info in infos)
    assert config.best == tuple(info.best for info in infos)


@pytest.mark.parametrize("config", [MmleConfig(), SMALL])
def test_configs_survive_json(config):
    assert MmleConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"widths": ()}, "at least 1"),
        ({"widths": (8, 0)}, "at least 1"),
        ({"latent_channels": 0}, "at least 1"),
        ({"hidden": 0}, "at least 1"),
        ({"fr_metrics": ("psnr",)}, "fr_metrics"),
        ({"nr_metrics": (), "nr_weights": ()}, "nr_metrics"),
        ({"nr_weights": (1.0,)}, "nr_weights"),
        ({"nr_weights": (-1.0, 2.0)}, "negative"),
        ({"fr_weights": (0.0, 0.0, 0.0, 0.0)}, "above 0"),
        ({"fr_weights": (math.inf, 0.0, 0.0, 0.0)}, "must be a number, got inf"),
        ({"worst": (0.0,)}, "one value for each"),
        ({"worst": (50.0, 1.0, 0.0, 1.0, 100.0, 0.0)}, "must differ"),
    ],
)
def test_odd_configs_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MmleConfig(**settings)
