"""The batched pipeline draws what the single one draws: features of what comes out are distributed alike."""

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from adadiffsr_core.data.degradation.batch import BatchDegradation
from adadiffsr_core.data.degradation.noise_batch import LUMA
from adadiffsr_core.data.degradation.single import degrade, from_levels, to_levels
from tests.pictures_batch import MILD, STRONG, crops, to_batch

pytestmark = pytest.mark.usefixtures("one_thread")


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


def with_a_third_of_the_noise(config):
    def quieter(order):
        weaker = {
            name: tuple(bound / 3 for bound in getattr(order.noise, name))
            for name in ("gaussian_range", "poisson_range")
        }
        return replace(order, noise=replace(order.noise, **weaker))

    return replace(config, orders=tuple(quieter(order) for order in config.orders))


@pytest.mark.parametrize("broken", [without_jpeg, with_a_third_of_the_noise])
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
