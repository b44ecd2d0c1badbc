"""The batched pipeline against the one for a single picture, which is OpenCV's."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.training.degradation import (
    DegradationConfig,
    compress,
    degrade,
    from_levels,
    to_levels,
)
from adadiffsr_core.training.degradation_batch import BatchDegradation, Draws
from adadiffsr_core.training.draws import StageDraws
from adadiffsr_core.training.image_noise import poisson_table
from adadiffsr_core.training.kernels import gaussian_kernel, plateau_kernel, sinc_kernel
from adadiffsr_core.training.kernels_batch import (
    GAUSSIAN,
    PLATEAU,
    SINC,
    KernelDraws,
    blur_batch,
    build_kernels,
    transform_length,
)
from adadiffsr_core.training.noise_batch import LUMA, NORMAL, POISSON
from adadiffsr_core.training.processor import Processor
from adadiffsr_core.training.resampling import reflected_index, resize_batch, resize_matrix

PHOTOS = Path(__file__).resolve().parents[2] / "photos"
STRONG, MILD = DegradationConfig(), DegradationConfig.mild()
# one core: the steps are short, and a second thread waits more than it works
pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def crops(count, size_px, seed=0):
    """Of the example photographs, uint8 `[count,size_px,size_px,3]`."""
    rng = np.random.default_rng(seed)
    photos = [cv2.imread(str(path)) for path in sorted(PHOTOS.glob("*.jpg"))]
    drawn = []
    for i in range(count):
        photo = photos[i % len(photos)]
        y, x = (rng.integers(side - size_px + 1) for side in photo.shape[:2])
        drawn.append(photo[y : y + size_px, x : x + size_px, ::-1])
    return np.stack(drawn)


def to_batch(pictures):
    return torch.from_numpy(np.ascontiguousarray(from_levels(pictures).transpose(0, 3, 1, 2)))


def to_picture(image, side=None):
    return np.ascontiguousarray(image[:, :side, :side].permute(1, 2, 0).numpy())


def in_corner(picture, length):
    """A picture in a buffer of something else."""
    buffer = torch.full((1, 3, length, length), 1e6)
    buffer[0, :, : len(picture), : len(picture)] = torch.from_numpy(picture).permute(2, 0, 1)
    return buffer


# ---- each step against OpenCV


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_resize_is_opencvs(before, after, method):
    picture = np.random.default_rng(before).random((before, before, 3), dtype=np.float32)
    sides, out_sides = torch.tensor([float(before)]), torch.tensor([float(after)])
    weights = resize_matrix(sides, out_sides, torch.tensor([float(method)]), 44, 42)
    ours = resize_batch(in_corner(picture, 42), weights, weights)
    expected = cv2.resize(picture, (after, after), interpolation=METHODS[method])
    np.testing.assert_allclose(to_picture(ours[0], after), expected, atol=2e-4)
    assert torch.all(ours[..., after:, :] == 0)


@given(st.integers(1, 30), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_blur_is_opencvs_with_borders_reflected(side, radius):
    rng = np.random.default_rng(side)
    picture, kernel = (rng.random(shape, dtype=np.float32) for shape in ((side, side, 3), (2 * radius + 1,) * 2))
    padded = cv2.copyMakeBorder(picture, radius, radius, radius, radius, cv2.BORDER_REFLECT_101)
    expected = cv2.filter2D(padded, -1, kernel)[radius : radius + side, radius : radius + side]
    ours = blur_batch(in_corner(picture, 32), torch.from_numpy(kernel)[None], torch.tensor([float(side)]))
    np.testing.assert_allclose(to_picture(ours[0], side), expected, atol=1e-4)


def test_no_reflection_leaves_the_picture():
    sides = torch.arange(1.0, 20)
    index = reflected_index(sides, 41, 10)
    assert torch.all(index >= 0)
    assert torch.all(index < sides[:, None])


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (GAUSSIAN, lambda size: gaussian_kernel(size, (0.7, 2.0), 0.8, 1.7)),
        (PLATEAU, lambda size: plateau_kernel(size, (0.7, 2.0), 0.8, 1.7)),
        (SINC, lambda size: sinc_kernel(size, 1.3)),
    ],
)
def test_kernels_are_those_of_the_single_pipeline(family, expected):
    sizes = torch.tensor([1.0, 7.0, 13.0, 21.0])
    values = (sizes, *(torch.full((4,), value) for value in (float(family), 0.7, 2.0, 0.8, 1.7, 1.3)))
    kernels = build_kernels(KernelDraws(*values), 21)
    for size, kernel in zip((1, 7, 13, 21), kernels, strict=True):
        margin = (21 - size) // 2
        np.testing.assert_allclose(kernel, np.pad(expected(size), margin), atol=1e-5)


def test_transforms_have_lengths_that_are_fast():
    assert [transform_length(least) for least in (1, 76, 276, 404, 512)] == [2, 80, 280, 420, 512]


# ---- the whole against OpenCV with the same draws


def naive_kernel(draws):
    size, family, sigma, other, angle, power, cutoff = (float(value) for value in draws)
    if family == SINC:
        return sinc_kernel(int(size), cutoff)
    build = plateau_kernel if family == PLATEAU else gaussian_kernel
    return build(int(size), (sigma, other), angle, power)


def naive_noise(picture, stage, uniform):
    kind, strength, grey = (float(value) for value in stage.noise)
    uniform = to_picture(uniform)[: len(picture), : len(picture)]
    source = picture @ np.array(LUMA, np.float32)[:, None] if grey else picture
    uniform = uniform[..., :1] if grey else uniform
    if kind == NORMAL:
        deviates = torch.special.ndtri(torch.from_numpy(uniform).clamp(0.5 / 65536, 1 - 0.5 / 65536)).numpy()
        return np.clip(picture + deviates * strength / 255, 0, 1)
    if kind == POISSON:
        levels = (source * 255 + 0.5).astype(int)
        photons = 1 << (len(np.unique(levels)) - 1).bit_length()
        table = poisson_table(photons).reshape(256, 1024)
        return np.clip(picture + table[levels, (uniform * 1024).astype(int)] * strength, 0, 1)
    return picture


def naive_resize(picture, stage):
    side = int(stage.sides)
    same = len(picture) == side
    return picture if same else cv2.resize(picture, (side, side), interpolation=METHODS[int(stage.methods)])


def naive_filter(picture, stage):
    kernel = naive_kernel(stage.kernels)
    radius = len(kernel) // 2
    padded = cv2.copyMakeBorder(picture, radius, radius, radius, radius, cv2.BORDER_REFLECT_101)
    return cv2.filter2D(padded, -1, kernel)[radius : radius + len(picture), radius : radius + len(picture)]


def naive_jpeg(picture, stage):
    return compress(picture, int(stage.qualities)) if stage.qualities > 0 else picture


def naive(picture, stages, noise):
    """Row by row what the batch does at once."""
    *orders, finish = stages
    image = from_levels(picture)
    for stage, uniform in zip(orders, noise, strict=True):
        image = np.clip(naive_resize(naive_filter(image, stage), stage), 0, 1)
        image = naive_jpeg(naive_noise(image, stage, uniform), stage)
    image = naive_jpeg(naive_filter(naive_resize(image, finish), finish), finish)
    return cv2.resize(to_levels(image), picture.shape[:2], interpolation=cv2.INTER_CUBIC)


def pick(draws, rows):
    """The draws of some pictures."""

    def of(stage):
        values = [*stage.kernels, stage.sides, stage.methods, *stage.noise, stage.qualities]
        return StageDraws.unpack(torch.stack([value[rows] for value in values]))

    return Draws(tuple(of(stage) for stage in draws.stages), tuple(noise[rows] for noise in draws.noise))


@pytest.mark.parametrize("scales", [(1.0, 4.0), (4.0, 4.0)])
def test_with_the_same_draws_it_is_opencvs(scales):
    pictures = crops(24, 97)
    degradation = BatchDegradation(STRONG, MILD, 0.3, scales)
    draws = degradation.draw(24, 97, 5, 0)
    batch = degradation(to_batch(pictures), draws)
    errors = []
    for i, picture in enumerate(pictures):
        one = pick(draws, i)
        expected = naive(picture, one.stages, one.noise)
        errors.append(np.abs(to_picture(batch[i]) * 255 - expected).mean())
    assert np.median(errors) < 0.6
    assert max(errors) < 2


# ---- the distributions, with draws of its own


def spectrum(picture):
    """Mean log power in four bands from low to high frequencies."""
    luma = (picture @ np.array(LUMA)) * np.outer(np.hanning(len(picture)), np.hanning(len(picture)))
    power = np.abs(np.fft.fft2(luma)) ** 2
    frequency = np.fft.fftfreq(len(picture))
    radius = np.hypot(frequency, frequency[:, None])
    edges = [0.02, 0.08, 0.16, 0.28, 0.5]
    return [np.log(power[(radius >= low) & (radius < high)] + 1).mean() for low, high in pairwise(edges)]


def blockiness(picture, grid):
    """How much larger steps are between blocks of `grid` px than elsewhere, logarithm of the ratio."""
    steps = [np.abs(np.diff(picture, axis=axis)).mean(1 - axis).mean(1) for axis in (0, 1)]
    between = np.arange(len(picture) - 1) % grid == grid - 1
    return np.log(np.mean([step[between].mean() + 0.05 for step in steps])) - np.log(
        np.mean([step[~between].mean() + 0.05 for step in steps])
    )


def features(gt, lq_up, scale):
    """[draws,6]: PSNR, four bands, blockiness."""
    rows = []
    for truth, picture in zip(gt.astype(float), lq_up.astype(float), strict=True):
        psnr = -10 * np.log10(np.mean((truth - picture) ** 2) / 255**2 + 1e-6)
        rows.append([psnr, *spectrum(picture), blockiness(picture, 8 * scale)])
    return np.array(rows)


def one_by_one(pictures, scale, seed):
    """Today's pipeline, as `PairDataset` calls it."""
    pipelines = replace(STRONG, scale=scale), replace(MILD, scale=scale)
    results = []
    for i, picture in enumerate(pictures):
        rng = np.random.default_rng([seed, i])
        lq = degrade(from_levels(picture), rng, pipelines[int(rng.random() < 0.3)])
        results.append(cv2.resize(to_levels(lq), picture.shape[:2], interpolation=cv2.INTER_CUBIC))
    return np.stack(results)


def at_once(pictures, scale, seed, strong=STRONG, mild=MILD, batch=25):
    degradation = BatchDegradation(strong, mild, 0.3, (scale, scale))
    size_px, results = pictures.shape[1], []
    for step, start in enumerate(range(0, len(pictures), batch)):
        part = to_batch(pictures[start : start + batch])
        lq_up = degradation(part, degradation.draw(len(part), size_px, seed, step))
        results.append((lq_up * 255).round().permute(0, 2, 3, 1).numpy())
    return np.concatenate(results)


def distance(ours, theirs):
    """Largest difference of the two distribution functions, of each feature: Kolmogorov and Smirnov's statistic."""
    points = np.sort(np.concatenate([ours, theirs]), axis=0)
    shares = [
        [
            np.searchsorted(np.sort(sample), column, side="right")
            for sample, column in zip(values.T, points.T, strict=True)
        ]
        for values in (ours, theirs)
    ]
    return np.abs(np.subtract(*shares)).max(1) / len(ours)


def bound(count):
    """What six features of the same distribution exceed once in a thousand times, by Bonferroni's bound."""
    return np.sqrt(-np.log(0.001 / 6 / 2) / count)


@pytest.fixture(scope="module")
def hundred(one_thread):
    pictures = crops(150, 56)
    return pictures, features(pictures, one_by_one(pictures, 1, 0), 1)


def test_the_distributions_are_those_of_the_single_pipeline(hundred):
    pictures, theirs = hundred
    ours = features(pictures, at_once(pictures, 1, 0), 1)
    assert np.all(distance(ours, theirs) < bound(150))


def without_jpeg(config):
    return replace(config, orders=tuple(replace(order, jpeg_prob=0) for order in config.orders))


def with_half_the_noise(config):
    def quieter(order):
        halves = {
            name: tuple(bound / 2 for bound in getattr(order.noise, name))
            for name in ("gaussian_range", "poisson_range")
        }
        return replace(order, noise=replace(order.noise, **halves))

    return replace(config, orders=tuple(quieter(order) for order in config.orders))


@pytest.mark.parametrize("broken", [without_jpeg, with_half_the_noise])
def test_the_measure_sees_what_is_missing(hundred, broken):
    pictures, theirs = hundred
    ours = features(pictures, at_once(pictures, 1, 0, broken(STRONG), broken(MILD)), 1)
    assert np.any(distance(ours, theirs) > bound(150))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_a_thousand_draws_have_the_distributions_of_the_single_pipeline(scale):
    pictures = crops(1000, 128)
    ours, theirs = (
        features(pictures, at_once(pictures, scale, 1), scale),
        features(pictures, one_by_one(pictures, scale, 1), scale),
    )
    assert np.all(distance(ours, theirs) < bound(1000))


# ---- as a function of a batch


@pytest.mark.parametrize("scales", [(1.0, 4.0), (4.0, 4.0)])
def test_a_picture_does_not_depend_on_the_others(scales):
    gt = to_batch(crops(6, 64))
    degradation = BatchDegradation(STRONG, MILD, 0.3, scales)
    draws = degradation.draw(6, 64, 0, 0)
    together = degradation(gt, draws)
    for rows in ([4], [5, 1, 0], [2, 3]):
        apart = degradation(gt[rows], pick(draws, rows))
        # a product may be summed in another order, which tips a rounding now and then
        assert torch.mean((apart - together[rows]).abs() * 255) < 0.02


def test_seed_and_step_decide_everything():
    gt = to_batch(crops(4, 48))
    degradation = BatchDegradation(STRONG, MILD, 0.3, (1.0, 4.0))
    first, again, later, other = (
        degradation(gt, degradation.draw(4, 48, *which)) for which in ((7, 1), (7, 1), (7, 2), (8, 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


@given(st.integers(4, 75), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_any_size_is_on_levels(size_px, seed):
    degradation = BatchDegradation(STRONG, MILD, 0.3, (1.0, 4.0))
    gt = torch.rand(3, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed))
    lq_up = degradation(gt, degradation.draw(3, size_px, seed, 0))
    assert lq_up.shape == gt.shape
    assert 0 <= lq_up.min() <= lq_up.max() <= 1
    torch.testing.assert_close(lq_up * 255, (lq_up * 255).round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("scales", [(1.0, 4.0), (4.0, 4.0), (1.0, 1.0), (1.3, 2.7)])
def test_buffers_hold_what_is_drawn(scales):
    degradation = BatchDegradation(STRONG, MILD, 0.3, scales)
    numbers = degradation.draw_numbers(3000, 97, 0, 0)
    largest = numbers[:, 7].max(1)
    assert np.all(largest <= degradation.sides(97))
    assert np.all(largest > 0.9 * np.array(degradation.sides(97)))
    assert numbers[-1, 7].min() >= 97 // scales[1]


def test_sizes_are_drawn_alike_at_one_scale():
    degradation = BatchDegradation(STRONG, MILD, 0.3, (4.0, 4.0))
    assert degradation.sides(256) == [384, 76, 64]
    assert np.all(degradation.draw_numbers(50, 256, 0, 0)[-1, 7] == 64)


def test_every_tensor_is_on_the_device():
    degradation = BatchDegradation(STRONG, MILD, 0.3, (1.0, 4.0), Processor(torch.device("meta")))
    lq_up = degradation(torch.rand(5, 3, 64, 64, device="meta"), degradation.draw(5, 64, 0, 0))
    assert lq_up.is_meta
    assert lq_up.shape == (5, 3, 64, 64)


def test_what_cannot_be_degraded_is_refused():
    with pytest.raises(ConfigError, match="scales"):
        BatchDegradation(STRONG, MILD, 0.3, (0.5, 4.0))
    with pytest.raises(ConfigError, match="mild_prob"):
        BatchDegradation(STRONG, MILD, 1.3)
    degradation = BatchDegradation(STRONG, MILD, 0.3)
    with pytest.raises(ShapeError, match="times smaller"):
        degradation.draw(2, 3, 0, 0)
    draws = degradation.draw(2, 32, 0, 0)
    for shape in ((3, 3, 32, 32), (2, 1, 32, 32), (2, 3, 32, 48), (2, 3, 48, 48)):
        with pytest.raises(ShapeError, match="like their draws"):
            degradation(torch.rand(shape), draws)
