"""Batched resizing, kernels and blur against OpenCV's and the single pipeline's."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adadiffsr_core.data.degradation.kernels import gaussian_kernel, plateau_kernel, sinc_kernel
from adadiffsr_core.data.degradation.kernels_batch import (
    GAUSSIAN,
    PLATEAU,
    SINC,
    KernelDraws,
    blur_batch,
    build_kernels,
    transform_length,
)
from adadiffsr_core.data.degradation.resampling import reflected_index, resize_batch, resize_matrix
from tests.pictures_batch import METHODS, in_corner, to_picture

pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2))
@example(29, 11, 0)  # 11 * (29 / 11) is more than 29 in float32
@example(6, 34, 0)  # output pixel 17 begins at source pixel 3, and by OpenCV's rounding just before it
@settings(max_examples=150, deadline=None)
def test_a_resize_is_opencvs(before, after, method):
    picture = np.random.default_rng(before).random((before, before, 3), dtype=np.float32)
    sides, out_sides = torch.tensor([float(before)]), torch.tensor([float(after)])
    weights = resize_matrix(sides, out_sides, torch.tensor([float(method)]), 44, 42)
    ours = resize_batch(in_corner(picture, 42), weights, weights)
    expected = cv2.resize(picture, (after, after), interpolation=METHODS[method])
    # OpenCV leaves out what covers less than a thousandth of a pixel
    np.testing.assert_allclose(to_picture(ours[0], after), expected, atol=1e-3)
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
