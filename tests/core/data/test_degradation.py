import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adadiffsr_core.data.degradation.kernels import BlurConfig
from adadiffsr_core.data.degradation.noise import NoiseConfig, add_noise, gaussian_noise, poisson_noise
from adadiffsr_core.data.degradation.single import (
    DegradationConfig,
    OrderConfig,
    compress,
    degrade,
    from_levels,
    to_levels,
)
from adadiffsr_core.errors import ConfigError, ShapeError

KEEP = (0.0, 0.0, 1.0)
QUIET_ORDER = OrderConfig(blur=BlurConfig(prob=0), noise=NoiseConfig(prob=0), resize_probs=KEEP, jpeg_prob=0)
QUIET = DegradationConfig(orders=(QUIET_ORDER, replace(QUIET_ORDER, filter_probs=(1.0, 0.0, 0.0))), sinc_prob=0)


def textured(height=64, width=64, seed=0):
    """Colourful, with edges and detail, on 8-bit levels."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.random((6, 6, 3), dtype=np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    return from_levels(to_levels(0.75 * coarse + 0.25 * rng.random((height, width, 3), dtype=np.float32)))


def with_order(place, **changes):
    orders = [replace(order, **changes) if i == place else order for i, order in enumerate(QUIET.orders)]
    return replace(QUIET, orders=tuple(orders))


def run(config, seed=0, gt=None):
    return degrade(textured() if gt is None else gt, np.random.default_rng(seed), config)


@given(st.integers(4, 70), st.integers(4, 70), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_output_has_its_shape_range_and_levels_at_any_size(height, width, seed, mild):
    config = DegradationConfig.mild() if mild else DegradationConfig()
    lq = run(config, seed, textured(height, width))
    assert lq.shape == (height // 4, width // 4, 3)
    assert lq.dtype == np.float32
    np.testing.assert_array_equal(lq, from_levels(to_levels(lq)))
    assert 0 <= lq.min() <= lq.max() <= 1


@pytest.mark.parametrize("config", [DegradationConfig(), DegradationConfig.mild()])
def test_same_state_gives_the_same_image_and_another_another(config):
    np.testing.assert_array_equal(run(config, 3), run(config, 3))
    assert np.any(run(config, 3) != run(config, 4))


def test_the_input_is_not_written_to():
    gt = textured()
    for seed in range(10):
        run(DegradationConfig(), seed, gt)
    np.testing.assert_array_equal(gt, textured())


def test_threads_of_opencv_change_nothing():
    threads = cv2.getNumThreads()
    try:
        results = []
        for count in (1, 2):
            cv2.setNumThreads(count)
            results.append([run(DegradationConfig(), seed) for seed in range(6)])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(*results)


def test_with_everything_off_only_the_area_mean_is_left():
    gt = textured()
    mean = gt.reshape(16, 4, 16, 4, 3).mean((1, 3))
    np.testing.assert_allclose(run(QUIET), mean, atol=0.51 / 255)
    np.testing.assert_array_equal(run(replace(QUIET, scale=1)), gt)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    "changes",
    [
        {"blur": BlurConfig(prob=1, sigma_range=(2.0, 3.0))},
        {"noise": NoiseConfig(gaussian_prob=1, gaussian_range=(20.0, 30.0))},
        {"noise": NoiseConfig(gaussian_prob=0, poisson_range=(2.0, 3.0))},
        {"resize_probs": (0.0, 1.0, 0.0), "resize_range": (0.2, 1.0)},
        {"resize_probs": (1.0, 0.0, 0.0), "resize_range": (1.0, 1.5)},
        {"jpeg_prob": 1.0},
    ],
    ids=["blur", "gaussian", "poisson", "down", "up", "jpeg"],
)
def test_each_part_arrives_in_each_order(place, changes):
    assert np.abs(run(with_order(place, **changes)) - run(QUIET)).mean() > 0.5 / 255


def test_the_final_sinc_arrives():
    assert np.abs(run(replace(QUIET, sinc_prob=1)) - run(QUIET)).mean() > 0.5 / 255


def test_the_last_jpeg_comes_before_or_after_the_final_sinc():
    both = replace(with_order(1, jpeg_prob=1.0, jpeg_range=(30.0, 30.0)), sinc_prob=1)
    first, last = (run(replace(both, sinc_first_prob=prob)) for prob in (1.0, 0.0))
    # JPEG at the end is a fixed point of a second JPEG, or nearly so
    changes = [np.abs(compress(lq, 30) - lq).mean() for lq in (first, last)]
    assert changes[0] < 0.7 * changes[1]


def mean_error(config):
    return np.mean([np.abs(run(config, seed) - run(QUIET)).mean() for seed in range(12)])


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("weak", "strong"),
    [
        ({"jpeg_prob": 1.0, "jpeg_range": (95.0, 95.0)}, {"jpeg_prob": 1.0, "jpeg_range": (10.0, 10.0)}),
        (
            {"resize_probs": (0.0, 1.0, 0.0), "resize_range": (0.9, 1.0)},
            {"resize_probs": (0.0, 1.0, 0.0), "resize_range": (0.05, 1.0)},
        ),
        (
            {"noise": NoiseConfig(gaussian_prob=1, gaussian_range=(1.0, 1.0))},
            {"noise": NoiseConfig(gaussian_prob=1, gaussian_range=(30.0, 30.0))},
        ),
        (
            {"noise": NoiseConfig(gaussian_prob=0, poisson_range=(0.05, 0.05))},
            {"noise": NoiseConfig(gaussian_prob=0, poisson_range=(3.0, 3.0))},
        ),
    ],
    ids=["jpeg", "resize", "gaussian", "poisson"],
)
def test_ranges_arrive(place, weak, strong):
    assert 1.5 * mean_error(with_order(place, **weak)) < mean_error(with_order(place, **strong))


def test_the_filter_arrives():
    results = [
        run(with_order(1, filter_probs=tuple(float(i == j) for j in range(3))), gt=textured(66, 66)) for i in range(3)
    ]
    assert np.any(results[0] != results[1])
    assert np.any(results[1] != results[2])


def test_mild_is_milder():
    assert mean_error(DegradationConfig.mild()) < 0.7 * mean_error(DegradationConfig())


def test_nothing_moves_on_average():
    """The centre of a blob stays where it is, or pairs would teach a shift."""
    y, x = np.mgrid[:128, :128]
    blob = np.exp(-((y - 71.5) ** 2 + (x - 51.5) ** 2) / (2 * 12**2))
    gt = np.repeat(blob[..., None], 3, axis=2).astype(np.float32)
    noiseless = DegradationConfig(
        orders=tuple(replace(order, noise=NoiseConfig(prob=0)) for order in DegradationConfig().orders)
    )
    centres = []
    for seed in range(40):
        weight = run(noiseless, seed, gt).mean(2)
        weight = np.where(weight > 0.2, weight, 0)
        rows, columns = np.indices(weight.shape)
        centres.append([(weight * axis).sum() / weight.sum() * 4 + 1.5 for axis in (rows, columns)])
    assert np.abs(np.mean(centres, axis=0) - (71.5, 51.5)).max() < 0.25


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_compress_is_what_another_jpeg_library_does_to_rgb(quality):
    smooth = cv2.GaussianBlur(textured(), (0, 0), 2)
    file = io.BytesIO()
    Image.fromarray(to_levels(smooth)).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    other = from_levels(np.asarray(Image.open(file)))
    assert np.abs(compress(smooth, quality) - other).mean() < 0.5 / 255


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("sigma", [1.0, 10.0, 30.0])
def test_gaussian_noise_has_the_asked_deviation(grey, sigma):
    noise = gaussian_noise(np.random.default_rng(0), np.zeros((200, 200, 3), np.float32), sigma, grey)
    assert noise.shape == (200, 200, 1 if grey else 3)
    assert noise.std() * 255 == pytest.approx(sigma, rel=0.02)
    assert abs(noise.mean() * 255) < 0.03 * sigma
    # the tails are there: 4.6 % of a normal variable lie beyond two deviations
    assert np.mean(np.abs(noise) * 255 > 2 * sigma) == pytest.approx(0.0455, abs=0.005)


def test_channels_of_coloured_noise_are_independent():
    noise = gaussian_noise(np.random.default_rng(0), np.zeros((200, 200, 3), np.float32), 10, grey=False)
    correlation = np.corrcoef(noise.reshape(-1, 3).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.02


@pytest.mark.parametrize("grey", [True, False])
def test_poisson_noise_has_the_variance_of_photon_counts(grey):
    ramp = np.broadcast_to((np.arange(256) / 255).astype(np.float32)[None, :, None], (1500, 256, 3))
    factor = 1.5
    noise = poisson_noise(np.random.default_rng(0), ramp, factor, grey)
    assert noise.shape == (1500, 256, 1 if grey else 3)
    mean = np.arange(256)[:, None] / 255 * 256
    counts = noise / factor * 256 + mean
    np.testing.assert_allclose(counts, counts.round(), atol=1e-3)
    assert counts.min() >= -1e-3
    assert np.all(noise[:, 0] == 0)  # no light, no noise
    np.testing.assert_allclose(counts.mean(0)[1:] / mean[1:], 1, atol=0.12)
    np.testing.assert_allclose(counts.var(0)[10:] / mean[10:], 1, atol=0.15)
    assert (counts.var(0)[10:] / mean[10:]).mean() == pytest.approx(1, abs=0.01)


def test_few_grey_levels_mean_few_photons():
    bright = np.ones((64, 64, 3), np.float32)
    one_level = poisson_noise(np.random.default_rng(0), bright, 1.0, grey=False)
    assert one_level.std() == pytest.approx(1.0, rel=0.05)
    bright[:32] = 0.5
    two_levels = poisson_noise(np.random.default_rng(0), bright, 1.0, grey=False)
    assert two_levels[32:].std() == pytest.approx(np.sqrt(1 / 2), rel=0.05)


def test_add_noise_obeys_its_probabilities():
    image = textured()
    assert add_noise(np.random.default_rng(0), image, NoiseConfig(prob=0)) is image
    for gaussian_prob in (0, 1):
        for grey_prob in (0, 1):
            config = NoiseConfig(gaussian_prob=gaussian_prob, grey_prob=grey_prob, gaussian_range=(5.0, 5.0))
            dim = 0.3 + 0.2 * image
            change = add_noise(np.random.default_rng(0), dim, config) - dim
            spread = np.abs(change - change.mean(2, keepdims=True)).max()
            assert (spread < 1e-6) == bool(grey_prob)
            assert np.abs(change).max() > 0


def test_noise_is_clipped():
    noisy = add_noise(np.random.default_rng(0), textured(), NoiseConfig(gaussian_prob=1, gaussian_range=(90.0, 90.0)))
    assert noisy.min() == 0
    assert noisy.max() == 1


@pytest.mark.parametrize("shape", [(3, 64, 3), (64, 64), (64, 64, 4)])
def test_images_that_cannot_be_degraded_are_refused(shape):
    with pytest.raises(ShapeError, match="to degrade"):
        degrade(np.zeros(shape, np.float32), np.random.default_rng(0), DegradationConfig())


def test_defaults_are_the_published_ones():
    first, second = DegradationConfig().orders
    for order, (probs, resize, noise, poisson, blur, sigma) in {
        first: ((0.2, 0.7, 0.1), (0.15, 1.5), (1, 30), (0.05, 3), 1.0, (0.2, 3)),
        second: ((0.3, 0.4, 0.3), (0.3, 1.2), (1, 25), (0.05, 2.5), 0.8, (0.2, 1.5)),
    }.items():
        assert (order.resize_probs, order.resize_range, order.jpeg_range) == (probs, resize, (30, 95))
        assert (order.noise.gaussian_range, order.noise.poisson_range) == (noise, poisson)
        assert (order.noise.prob, order.noise.gaussian_prob, order.noise.grey_prob) == (1, 0.5, 0.4)
        assert (order.blur.prob, order.blur.sigma_range, order.blur.sinc_prob) == (blur, sigma, 0.1)
        assert order.blur.shape_probs == (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
        assert (order.blur.generalised_range, order.blur.plateau_range) == ((0.5, 4), (1, 2))
    assert (DegradationConfig().sinc_prob, DegradationConfig().sinc_first_prob) == (0.8, 0.5)


@pytest.mark.parametrize("config", [DegradationConfig(), DegradationConfig.mild(), QUIET])
def test_config_goes_to_json_and_back(config):
    assert DegradationConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "values",
    [
        {"blur_strength": 1},
        {"orders": [{"jpeg": 1}]},
        {"orders": [{"blur": {"sigma": 1}}]},
        {"orders": [{"noise": {"grey_noise": 1}}]},
        {"orders": []},
        {"scale": 0},
        {"sinc_prob": -0.1},
        {"sinc_size_range": [6, 21]},
        {"orders": [{"jpeg_range": [30, 101]}]},
        {"orders": [{"resize_probs": [0.5, 0.5, 0.5]}]},
        {"orders": [{"resize_range": [1.1, 1.5]}]},
        {"orders": [{"noise": {"gaussian_range": [30, 1]}}]},
    ],
)
def test_unknown_keys_and_bad_values_are_refused(values):
    with pytest.raises(ConfigError):
        DegradationConfig.from_dict(values)
