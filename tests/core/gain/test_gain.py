"""Information gain by hand, and what the training-free estimator must see."""

import math

import pytest
import torch

from adadiffsr_core.gain.information import combine_metrics, information_gain
from adadiffsr_core.gain.statistics import LatentStatistics, blur, high_frequencies

SIGMA = torch.ones(1)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rate(denoised, lq_latent):
    return LatentStatistics().quality(denoised, lq_latent, SIGMA.expand(len(denoised)))


def test_combined_metrics_are_a_weighted_mean():
    values = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
    torch.testing.assert_close(combine_metrics(values, [3.0, 1.0]), torch.tensor([0.35, 0.75]))
    torch.testing.assert_close(combine_metrics(values, [0.5, 0.5]), values.mean(dim=1))


def test_gain_is_the_tanh_of_the_difference_per_twentieth_of_the_denoising():
    quality, previous = torch.tensor([[0.9, 0.3], [0.9, 0.3]]), torch.tensor([[0.5, 0.7], [0.5, 0.7]])
    gain = information_gain(quality, previous, torch.tensor([1 / 20, 4 / 20]))
    expected = [[math.tanh(0.4), math.tanh(-0.4)], [math.tanh(0.1), math.tanh(-0.1)]]
    torch.testing.assert_close(gain, torch.tensor(expected))


def test_gain_before_any_jump_is_finite():
    assert information_gain(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([0.0])).isfinite().all()


def test_blur_is_the_naive_one():
    latent = draw(1, 2, 5, 4)
    kernel = [0.25, 0.5, 0.25]
    for y in range(5):
        for x in range(4):
            total = torch.zeros(2)
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near = latent[0, :, min(max(y + dy, 0), 4), min(max(x + dx, 0), 3)]
                    total += kernel[dy + 1] * kernel[dx + 1] * near
            torch.testing.assert_close(blur(latent)[0, :, y, x], total)


def test_a_constant_has_no_high_frequencies():
    assert high_frequencies(torch.full((2, 4, 8, 8), 3.0)).abs().max() == 0


def test_quality_is_float32_within_0_and_1_even_far_outside_the_data():
    for scale in (0.0, 1.0, 100.0):
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            quality = rate((scale * draw(3, 4, 8, 8)).to(dtype), draw(3, 4, 8, 8, seed=1).to(dtype))
            assert quality.dtype == torch.float32
            assert quality.shape == (3, 2)
            assert ((quality >= 0) & (quality <= 1)).all()


def test_full_reference_quality_is_1_at_the_reference_and_falls_with_distance():
    lq, noise = draw(1, 4, 16, 16), draw(1, 4, 16, 16, seed=1)
    values = [float(rate(lq + amount * noise, lq)[0, 0]) for amount in (0.0, 0.1, 0.3, 1.0, 3.0)]
    assert values[0] == pytest.approx(1.0)
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 5


def test_psnr_share_is_psnr():
    lq = draw(1, 4, 16, 16)
    estimator = LatentStatistics(fr_weights=(1.0, 0.0))
    quality = float(estimator.quality(lq + 0.1, lq, SIGMA)[0, 0])
    assert quality == pytest.approx(10 * math.log10(8**2 / 0.1**2) / 50, rel=1e-5)


def test_no_reference_quality_grows_with_texture_and_ignores_the_reference():
    smooth, texture = blur(blur(draw(1, 4, 16, 16))), draw(1, 4, 16, 16, seed=1)
    values = [float(rate(smooth + amount * texture, smooth)[0, 1]) for amount in (0.0, 0.2, 0.5, 1.0)]
    assert values == sorted(values)
    assert len(set(values)) == 4
    assert float(rate(texture, smooth)[0, 1]) == float(rate(texture, texture)[0, 1])


def test_tiles_are_rated_alone():
    denoised, lq = draw(5, 4, 8, 8), draw(5, 4, 8, 8, seed=1)
    alone = torch.cat([rate(denoised[i : i + 1], lq[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(rate(denoised, lq), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_any_size_is_rated(size):
    assert rate(draw(1, 4, *size), draw(1, 4, *size, seed=1)).isfinite().all()
