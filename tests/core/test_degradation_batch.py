"""The batched pipeline against the one for a single picture, which is OpenCV's."""

import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.training.degradation import DegradationConfig, OrderConfig, compress, degrade, from_levels, to_levels
from adadiffsr_core.training.degradation_batch import BatchDegradation, Draws
from adadiffsr_core.training.draws import StageDraws
from adadiffsr_core.training.image_noise import NoiseConfig, poisson_table
from adadiffsr_core.training.kernels import BlurConfig, gaussian_kernel, plateau_kernel, sinc_kernel
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
METHODS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


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
