"""The batched pipeline against OpenCV with the same draws, and as a function of its batch."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.data.degradation.batch import BatchDegradation, Draws
from adadiffsr_core.data.degradation.draws import StageDraws
from adadiffsr_core.data.degradation.kernels import gaussian_kernel, plateau_kernel, sinc_kernel
from adadiffsr_core.data.degradation.kernels_batch import PLATEAU, SINC
from adadiffsr_core.data.degradation.noise import poisson_table
from adadiffsr_core.data.degradation.noise_batch import LUMA, NORMAL, POISSON
from adadiffsr_core.data.degradation.single import compress, from_levels, to_levels
from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.models.processor import Processor
from tests.pictures_batch import METHODS, MILD, STRONG, crops, to_batch, to_picture

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_one_copy_is_all_that_a_batch_brings_to_the_device(monkeypatch):
    degradation = BatchDegradation(STRONG, MILD, 0.3, (1.0, 4.0))
    copies, place = [], Processor.place
    monkeypatch.setattr(Processor, "place", lambda self, values: copies.append(values) or place(self, values))
    degradation(torch.rand(5, 3, 32, 32), degradation.draw(5, 32, 0, 0))
    assert [tuple(values.shape) for values in copies] == [(3, 13, 5)]


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
