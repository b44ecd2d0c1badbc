"""What is said of painted pictures: by whom, of which estimates, and whom it teaches."""

import numpy as np
import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.training.tasks.denoising import NoisyPairs
from adadiffsr_core.training.tasks.losses import PatchDiscriminator
from adadiffsr_core.training.tasks.picture_losses import (
    EstimateLossConfig,
    EstimateLosses,
    PictureLossConfig,
    PictureLosses,
    add_up,
)
from tests.trained import AUTOENCODER

CONFIG = EstimateLossConfig(adversarial_weight=0.25, feature_weight=0.5, perceptual_items=2, perceptual_crop=4)


def drawn(count=5, side=8):
    generator = torch.Generator().manual_seed(0)
    gt, lq, noise = torch.randn(3, count, AUTOENCODER.z_channels, side, side, generator=generator)
    return NoisyPairs(gt, lq, noise, torch.tensor([900, 30, 500, 10, 700])[:count])


def losses(config=CONFIG):
    torch.manual_seed(0)
    coder = Autoencoder(AUTOENCODER).requires_grad_(False)
    return EstimateLosses(config, coder, Processor())


def test_a_model_that_nobody_looks_at_has_no_discriminator():
    seen = losses(EstimateLossConfig())
    assert not seen.looks
    assert seen.discriminator is None


def test_the_least_noisy_are_looked_at_in_the_same_place_as_their_truth():
    seen, pairs = losses(), drawn()
    made, truth = seen.decode(pairs.gt, pairs, np.random.default_rng(3))
    torch.testing.assert_close(made.clamp(0, 1), truth)  # whatever place it was
    side = 4 * AUTOENCODER.factor
    assert made.shape == (2, 3, side, side)
    whole = EstimateLossConfig(adversarial_weight=0.25, perceptual_items=2, perceptual_crop=99)
    made, _ = losses(whole).decode(pairs.gt, pairs, np.random.default_rng(3))
    torch.testing.assert_close(made, seen.autoencoder.decode(pairs.gt[[3, 1]]))


def test_only_what_was_looked_at_is_taught():
    seen, pairs = losses(), drawn()
    denoised = pairs.lq.clone().requires_grad_(True)
    terms = seen.losses.terms(*seen.decode(denoised, pairs, np.random.default_rng(3)))
    assert [(weight, name) for weight, name, _ in terms] == [(0.25, "adversarial"), (0.5, "feature")]
    add_up(terms).backward()
    reached = denoised.grad.abs().sum(dim=1) > 0
    assert reached.any(dim=(1, 2)).tolist() == [False, True, False, True, False]
    assert (reached[1].sum(), reached[3].sum()) == (16, 16)
    assert all(weight.grad is None for weight in seen.autoencoder.parameters())


def test_the_discriminator_learns_to_tell_and_the_painter_to_deceive():
    torch.manual_seed(0)
    judge = PatchDiscriminator()
    shared = PictureLosses(PictureLossConfig(adversarial_weight=1.0, feature_weight=0.0), None, judge)
    truth, start = torch.rand(2, 3, 64, 64), torch.full((2, 3, 64, 64), 0.5)
    made = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam(judge.parameters(), lr=1e-3)
    told = []
    for _ in range(30):
        ((name, turn),) = shared.turns(made, truth)
        assert name == "discriminator"
        optimiser.zero_grad()
        turn["total"].backward()
        optimiser.step()
        told.append(float(turn["total"].detach()))
    assert told[-1] < 0.8 * told[0]
    assert made.grad is None  # its turn teaches the discriminator alone
    before = float(add_up(shared.terms(made, truth)).detach())
    add_up(shared.terms(made, truth)).backward()
    with torch.no_grad():
        made -= 0.05 * made.grad.sign()
    assert float(add_up(shared.terms(made, truth)).detach()) < before


@pytest.mark.parametrize("name", ["perceptual_weight", "adversarial_weight", "feature_weight"])
def test_negative_weights_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must not be negative"):
        EstimateLossConfig(**{name: -0.1})


@pytest.mark.parametrize("name", ["perceptual_items", "perceptual_crop"])
def test_nothing_cannot_be_looked_at(name):
    with pytest.raises(ConfigError, match="at least 1"):
        EstimateLossConfig(**{name: 0})
