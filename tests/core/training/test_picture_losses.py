"""What is said of painted pictures: by whom, of which estimates, and whom it teaches."""

import numpy as np
import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.nets.unet import UNetConfig
from adadiffsr_core.training.tasks.denoising import ScheduledUNet, sample_plainly
from adadiffsr_core.training.tasks.discriminators import FeatureDiscriminator, PatchDiscriminator
from adadiffsr_core.training.tasks.ldm import LdmTask, LdmTaskConfig
from adadiffsr_core.training.tasks.picture_losses import (
    EstimateLossConfig,
    EstimateLosses,
    PictureLossConfig,
    PictureLosses,
    add_up,
)
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.oracles import randomise
from tests.trained import AUTOENCODER, make_pictures


class Eyes(torch.nn.Module):
    """In the place of ST-LPIPS, whose package may not be installed: two stages, the second of half the size."""

    widths = (4, 6)

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.Conv2d(4, 6, 3, 2, 1)
        self.requires_grad_(False)

    def features(self, image):
        first = torch.relu(self.first(image))
        return [torch.nn.functional.normalize(stage, dim=1) for stage in (first, torch.relu(self.second(first)))]

    def compare(self, features, reference_features):
        return (features[0] - reference_features[0]).square().mean(dim=(1, 2, 3))


JUDGES = {"pixels": PatchDiscriminator, "features": lambda: FeatureDiscriminator(Eyes(), 8)}
CONFIG = EstimateLossConfig(adversarial_weight=0.25, feature_weight=0.5, perceptual_items=2, perceptual_crop=4)


def drawn(count=2, side=8):
    return torch.randn(2, count, AUTOENCODER.z_channels, side, side, generator=torch.Generator().manual_seed(0))


def losses(config=CONFIG):
    torch.manual_seed(0)
    coder = Autoencoder(AUTOENCODER).requires_grad_(False)
    return EstimateLosses(config, coder, Processor())


def test_a_model_that_nobody_looks_at_has_no_discriminator():
    seen = losses(EstimateLossConfig())
    assert not seen.looks
    assert seen.discriminator is None


def test_the_least_noisy_are_looked_at():
    assert losses().least_noisy(torch.tensor([900, 30, 500, 10, 700])).tolist() == [3, 1]


def test_an_estimate_is_looked_at_in_the_same_place_as_its_truth():
    seen, (gt, _) = losses(), drawn()
    made, truth = seen.decode(gt, gt, np.random.default_rng(3))
    torch.testing.assert_close(made.clamp(0, 1), truth)  # whatever place it was
    side = 4 * AUTOENCODER.factor
    assert made.shape == (2, 3, side, side)
    whole = EstimateLossConfig(adversarial_weight=0.25, perceptual_items=2, perceptual_crop=99)
    made, _ = losses(whole).decode(gt, gt, np.random.default_rng(3))
    torch.testing.assert_close(made, seen.autoencoder.decode(gt))


def test_only_what_was_looked_at_is_taught():
    seen, (gt, lq) = losses(), drawn()
    denoised = lq.clone().requires_grad_(True)
    terms = seen.losses.terms(*seen.decode(denoised, gt, np.random.default_rng(3)))
    assert [(weight, name) for weight, name, _ in terms] == [(0.25, "adversarial"), (0.5, "feature")]
    add_up(terms).backward()
    reached = denoised.grad.abs().sum(dim=1) > 0
    assert reached.sum(dim=(1, 2)).tolist() == [16, 16]
    assert all(weight.grad is None for weight in seen.autoencoder.parameters())


@pytest.mark.parametrize("kind", JUDGES)
def test_the_discriminator_learns_to_tell_and_the_painter_to_deceive(kind):
    torch.manual_seed(0)
    judge = JUDGES[kind]()
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


def test_what_has_learnt_to_see_is_neither_trained_nor_kept():
    torch.manual_seed(0)
    eyes = Eyes()
    judge = FeatureDiscriminator(eyes, 8)
    assert not {id(weight) for weight in judge.parameters()} & {id(weight) for weight in eyes.parameters()}
    image = torch.rand(2, 3, 32, 48, requires_grad=True)
    *seen, logits = judge.features(image)
    assert [tuple(part.shape) for part in seen] == [(2, 8, 16, 24), (2, 8, 16, 24), (2, 8, 8, 12)]
    assert logits.shape == (2, 3, 16, 24)
    assert torch.equal(logits[:, 2, ::2, ::2], logits[:, 2, 1::2, 1::2])  # repeated
    for stage in range(3):  # what each says reaches the picture
        assert torch.autograd.grad(logits[:, stage].mean(), image, retain_graph=True)[0].abs().sum() > 0


@pytest.mark.parametrize(("perceptual", "compared"), [(0.5, 1), (0.0, 0)])
def test_one_network_sees_for_both(monkeypatch, perceptual, compared):
    made = []
    monkeypatch.setattr("adadiffsr_core.training.tasks.picture_losses.StLpips", lambda: made.append(Eyes()) or made[-1])
    config = EstimateLossConfig(
        perceptual_weight=perceptual, adversarial_weight=0.1, discriminator="features", discriminator_width=8
    )
    seen = losses(config)
    assert len(made) == 1
    assert isinstance(seen.discriminator, FeatureDiscriminator)
    names = [name for _, name, _ in seen.losses.terms(*torch.rand(2, 1, 3, 32, 32))]
    assert names == ["perceptual"] * compared + ["adversarial", "feature"]


@pytest.mark.parametrize("target", ["picture", "residual"])
def test_on_its_own_way_a_model_is_looked_at_where_sampling_brings_it(tmp_path, target):
    """At the end of the way that is the sampled picture; wherever it is, one evaluation is taught."""
    net = UNetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1)
    torch.manual_seed(2)
    coder, config = Autoencoder(AUTOENCODER), LdmTaskConfig(batch_size=2, target=target, looks_at="sampled")
    pictures = make_pictures(side=32)
    task = LdmTask(net, config, coder, Examples(None, None), pictures, TaskSetup(Processor(), 3))
    unet = randomise(task.networks["unet"], 5).requires_grad_(True).train()
    with torch.no_grad():
        lq = coder.encode(task.low_quality[:2])
        noise = torch.randn(lq.shape, generator=torch.Generator().manual_seed(3))
    called = []
    unet.register_forward_hook(lambda _, inputs, output: called.append(output.requires_grad))
    # The levels of a schedule of nine steps.
    before, ends = 8, torch.tensor([111.0, 111.0])
    sampled = task._sample(lq, noise, ends, before)
    assert called == [False] * before + [True]
    scheduled = ScheduledUNet(unet, task.schedule, task.processor)
    with torch.no_grad():
        plain = sample_plainly(lambda x, sigma: scheduled.predict(x, lq, sigma), task.schedule, lq, 3, before + 1)
    torch.testing.assert_close(sampled, plain)
    sampled.sum().backward()
    assert unet.training
    assert any(weight.grad is not None and weight.grad.any() for weight in unet.parameters())


@pytest.mark.parametrize("name", ["perceptual_weight", "adversarial_weight", "feature_weight"])
def test_negative_weights_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must not be negative"):
        EstimateLossConfig(**{name: -0.1})


@pytest.mark.parametrize("width", [0, -1, 513])
def test_a_discriminator_has_some_channels_and_not_too_many(width):
    with pytest.raises(ConfigError, match="discriminator_width must be in"):
        EstimateLossConfig(discriminator_width=width)


def test_the_discriminator_is_as_wide_as_was_asked_for():
    first = losses(EstimateLossConfig(adversarial_weight=0.1, discriminator_width=8)).discriminator.stages[0]
    assert first.weight.shape[0] == 8


@pytest.mark.parametrize(("name", "most"), [("perceptual_items", 0), ("perceptual_crop", 0), ("perceptual_crop", 3)])
def test_nothing_cannot_be_looked_at_and_too_little_neither(name, most):
    """In 24 px ST-LPIPS's last stage has nothing left, and a discriminator nothing to pad with."""
    with pytest.raises(ConfigError, match="perceptual_items must be at least 1 and perceptual_crop 4"):
        EstimateLossConfig(**{name: most})
    EstimateLossConfig(**{name: 4})
