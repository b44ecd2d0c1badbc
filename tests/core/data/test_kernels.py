import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0

from adadiffsr_core.data.degradation.filtering import apply_kernel, separate_kernel, trim_kernel
from adadiffsr_core.data.degradation.kernels import (
    SHAPES,
    BlurConfig,
    draw_kernel,
    draw_sinc,
    gaussian_kernel,
    plateau_kernel,
    sinc_kernel,
)
from adadiffsr_core.errors import ConfigError, MissingExtraError

MAKERS = {"gaussian": gaussian_kernel, "plateau": plateau_kernel}


def only(shape, **settings_):
    return BlurConfig(shape_probs=tuple(float(shape == name) for name in SHAPES), sinc_prob=0, **settings_)


def naive_kernel(family, size, sigma, angle, power):
    kernel = np.zeros((size, size))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = np.linalg.inv(rotation @ np.diag(np.square(sigma)) @ rotation.T)
    for row in range(size):
        for column in range(size):
            place = np.array([column - size // 2, row - size // 2])
            distance = (place @ inverse @ place) ** power
            kernel[row, column] = np.exp(-distance / 2) if family == "gaussian" else 1 / (1 + distance)
    return kernel / kernel.sum()


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize(("angle", "power"), [(0.0, 1.0), (0.7, 1.0), (-2.0, 0.6), (1.1, 3.0)])
def test_kernel_is_the_papers_formula(family, angle, power):
    kernel = MAKERS[family](9, (2.0, 0.8), angle, power)
    np.testing.assert_allclose(kernel, naive_kernel(family, 9, (2.0, 0.8), angle, power), atol=1e-7)


@given(st.integers(0, 2**32), st.sampled_from(SHAPES))
@settings(max_examples=60, deadline=None)
def test_every_drawn_kernel_sums_to_one_and_has_its_symmetry(seed, shape):
    kernel = draw_kernel(np.random.default_rng(seed), only(shape))
    assert kernel.dtype == np.float32
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-6)
    if shape.endswith("_iso"):
        np.testing.assert_allclose(kernel, kernel.T, atol=1e-6)
        np.testing.assert_allclose(kernel, kernel[::-1], atol=1e-6)


@pytest.mark.parametrize("shape", [name for name in SHAPES if name.endswith("aniso")])
def test_anisotropic_kernels_are_not_round(shape):
    rng = np.random.default_rng(0)
    kernels = [draw_kernel(rng, only(shape)) for _ in range(20)]
    assert np.mean([np.abs(kernel - np.rot90(kernel)).sum() > 0.05 for kernel in kernels]) > 0.5


def test_a_quarter_turn_swaps_the_axes():
    turned = gaussian_kernel(15, (2.5, 1.0), np.pi / 2)
    np.testing.assert_allclose(turned, gaussian_kernel(15, (1.0, 2.5)), atol=1e-7)


@pytest.mark.parametrize("cutoff", [np.pi / 5, np.pi / 3, np.pi])
def test_sinc_is_the_inverse_transform_of_a_disc(cutoff):
    # of a function of the radius alone, that is the integral of w J0(w r) / 2 pi over the band
    nodes, weights = np.polynomial.legendre.leggauss(64)
    frequency = (nodes[:, None, None] + 1) * cutoff / 2
    place = np.arange(21) - 10
    radius = np.hypot(place[:, None], place[None])
    ideal = (weights[:, None, None] * frequency * j0(frequency * radius)).sum(0)
    kernel = sinc_kernel(21, cutoff)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(kernel, ideal / ideal.sum(), atol=1e-6)


@pytest.mark.parametrize("cutoff", [np.pi / 3, np.pi / 2])
def test_sinc_passes_low_frequencies_and_stops_high_ones(cutoff):
    response = np.abs(np.fft.fft2(sinc_kernel(41, cutoff), (256, 256)))
    frequency = np.fft.fftfreq(256) * 2 * np.pi
    radius = np.hypot(frequency[:, None], frequency[None])
    passed, stopped = response[radius < 0.8 * cutoff], response[radius > 1.25 * cutoff]
    # relative to the band's own level: the sum of 1 fixes the response at frequency 0, which sits on a ripple itself
    assert passed.std() < 0.05 * passed.mean()
    assert stopped.mean() < 0.02 * passed.mean()


def test_sinc_probability_and_sizes_arrive():
    rng = np.random.default_rng(1)
    always = BlurConfig(sinc_prob=1, size_range=(7, 11))
    kernels = [draw_kernel(rng, always) for _ in range(60)]
    assert {len(kernel) for kernel in kernels} == {7, 9, 11}
    # a low-pass undershoots, none of the six shapes does
    assert np.mean([kernel.min() < 0 for kernel in kernels]) > 0.9


def test_sigma_range_arrives():
    rng = np.random.default_rng(2)
    narrow = [draw_kernel(rng, only("gaussian_iso", sigma_range=(0.5, 0.6))).max() for _ in range(20)]
    wide = [draw_kernel(rng, only("gaussian_iso", sigma_range=(2.5, 3.0))).max() for _ in range(20)]
    # the middle weight of a wide enough Gaussian is 1 / (2 pi sigma^2)
    assert min(narrow) > 0.4
    assert max(wide) < 0.05


@pytest.mark.parametrize(("family", "setting"), [("generalised", "generalised_range"), ("plateau", "plateau_range")])
def test_exponent_range_arrives(family, setting):
    sharp, flat = (
        draw_kernel(np.random.default_rng(3), only(f"{family}_iso", sigma_range=(2, 2), size_range=(15, 15), **powers))
        for powers in ({setting: (0.5, 0.5)}, {setting: (4.0, 4.0)})
    )
    # a large exponent makes a disc: the middle is no higher than its neighbour
    assert flat[7, 7] / flat[7, 8] < 1.01 < 1.2 < sharp[7, 7] / sharp[7, 8]


def test_same_state_draws_the_same_kernel():
    first, second = (draw_kernel(np.random.default_rng(5), BlurConfig()) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("sinc_prob", [0.0, 1.0])
def test_fast_filtering_is_within_half_a_grey_level(sinc_prob):
    rng = np.random.default_rng(6)
    image = rng.random((190, 75, 3), dtype=np.float32)
    for _ in range(60):
        kernel = draw_kernel(rng, BlurConfig(sinc_prob=sinc_prob))
        np.testing.assert_allclose(apply_kernel(image, kernel), cv2.filter2D(image, -1, kernel), atol=0.5 / 255)


def test_filtering_crosses_block_borders_without_a_seam():
    image = np.random.default_rng(7).random((350, 181, 3), dtype=np.float32)
    kernel = draw_sinc(np.random.default_rng(8), (21, 21))
    np.testing.assert_allclose(apply_kernel(image, kernel), cv2.filter2D(image, -1, kernel), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (5, 3)])
def test_filtering_takes_images_smaller_than_the_kernel(shape):
    flat = np.full((*shape, 3), 0.4, dtype=np.float32)
    for kernel in (gaussian_kernel(21, (3.0, 3.0)), sinc_kernel(21, 1.0), plateau_kernel(9, (2.0, 1.0), 0.5)):
        np.testing.assert_allclose(apply_kernel(flat, kernel), flat, atol=1e-4)


def test_a_kernel_that_is_a_point_leaves_the_image_alone():
    image = np.random.default_rng(9).random((8, 8, 3), dtype=np.float32)
    np.testing.assert_array_equal(apply_kernel(image, gaussian_kernel(21, (0.2, 0.2))), image)


def test_trimming_keeps_the_sum_and_what_is_heavy():
    kernel = gaussian_kernel(21, (0.6, 0.6))
    trimmed = trim_kernel(kernel)
    assert trimmed.shape == (5, 5)
    assert trimmed.sum() == pytest.approx(1, abs=1e-6)
    assert trim_kernel(np.full((7, 7), 1 / 49)).shape == (7, 7)


def test_separation_needs_one_term_for_a_round_gaussian_and_adds_up():
    columns, rows = separate_kernel(gaussian_kernel(21, (2.0, 2.0)))
    assert len(rows) == 1
    slanted = gaussian_kernel(21, (3.0, 1.0), 0.6)
    columns, rows = separate_kernel(slanted)
    assert 1 < len(rows) < 21
    assert np.abs(np.einsum("ri,rj->ij", columns, rows) - slanted).sum() <= 5e-4


@pytest.mark.parametrize(
    "bad",
    [
        {"prob": 1.5},
        {"size_range": (8, 21)},
        {"size_range": (21, 7)},
        {"shape_probs": (0.5, 0.5)},
        {"shape_probs": (1.0, 0.5, 0.0, 0.0, 0.0, 0.0)},
        {"sigma_range": (0.0, 3.0)},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ConfigError):
        BlurConfig(**bad)


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("scipy.special", lambda: sinc_kernel(7, 1.0)),
        ("cv2", lambda: apply_kernel(np.zeros((9, 9, 3), np.float32), gaussian_kernel(7, (2.0, 2.0)))),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, module, use):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"adadiffsr\[train\]"):
        use()
