"""Regions that follow the picture: they cover it, one of them is the whole of it, and each costs what it says."""

import sys
from dataclasses import replace

import pytest
import torch

from adadiffsr_core.errors import ConfigError, MissingExtraError, ShapeError
from adadiffsr_core.evaluation.superpixels import (
    find_segments,
    sample_segments,
    segment_weights,
    upscale_superpixels,
)
from adadiffsr_core.models.model import Model
from adadiffsr_core.pipeline import sample_latent, upscale
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.settings import SamplingConfig
from tests.oracles import tiny_model

pytest.importorskip("skimage")

SMALL = SamplingConfig(steps=6, solver="euler", tile_size=64, overlap=32, tile_fit=False, dtss=DtssConfig(nr_from=0.3))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def quarters(height=24, width=24):
    """Four segments that meet in the middle of a canvas."""
    rows, cols = (torch.arange(side) >= side // 2 for side in (height, width))
    return rows[:, None] * 2 + cols.long()


def test_segments_follow_the_picture():
    image = torch.zeros(1, 3, 24, 32)
    image[..., 11:] = 1
    found = find_segments(image, 2)
    assert found.shape == (24, 32)
    assert len(found[:, :11].unique()) == len(found[:, 11:].unique()) == 1
    assert found[0, 0] != found[0, -1]


@pytest.mark.parametrize("border", [0, 1, 3])
def test_weights_cover_every_place_once(border):
    segments = find_segments(draw(1, 3, 20, 31), 9)
    segments = segments.unique(return_inverse=True)[1]
    weights = segment_weights(segments, border)
    assert torch.allclose(weights.sum(dim=0), torch.ones(1, 20, 31), atol=1e-6)
    assert float(weights.min()) >= 0
    naive = torch.zeros_like(weights)
    for y in range(20):
        for x in range(31):
            window = segments[max(0, y - border) : y + border + 1, max(0, x - border) : x + border + 1]
            for number in range(len(weights)):
                naive[number, 0, y, x] = (window == number).float().mean()
    assert torch.allclose(weights, naive, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (136, 100)])
@pytest.mark.parametrize("solver", ["euler", "ddpm"])
def test_one_segment_is_plain_upscaling(solver, size, model):
    """On one tile and on several: a segment that is too large is cut as a picture is, never into stretched tiles."""
    image, config = draw(1, 3, 16, 20), replace(SMALL, solver=solver)
    ours = upscale_superpixels(model, image, size, replace(config, tile_fit=True), segments=1)
    plain = upscale(model, image, size, config)
    assert torch.equal(ours.image, plain.image)
    first, second = ours.report.to_dict(), plain.report.to_dict()
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


@pytest.mark.parametrize(("shape", "size"), [((1, 1), (1, 1)), ((5, 30), (20, 120)), ((40, 33), (131, 99))])
def test_any_size_is_covered(shape, size, model):
    image = draw(1, 3, *shape)
    result = upscale_superpixels(model, image, size, SMALL, segments=6)
    assert result.image.shape == (1, 3, *size)
    assert bool(result.image.isfinite().all())
    covered = torch.zeros(result.segments.shape, dtype=torch.bool)
    for tile in result.report.tiles:
        assert tile.nfe > 0 or tile.outcome == "untouched"
        if tile.nfe:
            covered[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = True
    assert bool(covered.all())


def test_a_seed_is_a_picture(model):
    image = draw(1, 3, 24, 24)
    first, again, other = (
        upscale_superpixels(model, image, (96, 96), replace(SMALL, seed=seed), segments=5).image for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_batch_size_changes_no_picture(model):
    image = draw(1, 3, 24, 24)
    one, many = (
        upscale_superpixels(model, image, (160, 160), replace(SMALL, tile_batch=batch), segments=5).image
        for batch in (1, 8)
    )
    assert torch.allclose(one, many, atol=1e-5)


def test_every_segment_costs_its_own_evaluations(model):
    """Quarters of 12 px with borders of 2 are boxes of 14: tiles of 8 begin at 0, 4 and 6, both ways."""
    calls = []
    handle = model.unet.register_forward_hook(lambda net, inputs, output: calls.append(len(output)))
    _, report = sample_segments(model, draw(1, 4, 24, 24), quarters(), SMALL.uniform(2))
    handle.remove()
    assert len(report.tiles) == 4 * 9
    assert {tile.nfe for tile in report.tiles} == {3}
    assert report.nfe == sum(report.calls) == 4 * 9 * 3
    assert sum(calls) == 112  # full batches of 8, the last ones with copies
    assert report.full_nfe == 4 * 9 * 6
    assert report.seconds > 0


def test_segments_are_joined_by_their_weights(model):
    latent, weights = draw(1, 4, 24, 24), segment_weights(quarters(), 2)
    spans = [slice(0, 14), slice(10, 24)]
    boxes = [(rows, cols) for rows in spans for cols in spans]
    regions = torch.cat(
        [(latent * (weight > 0))[..., rows, cols] for weight, (rows, cols) in zip(weights, boxes, strict=True)]
    )
    sampled, _, _ = sample_latent(model, regions, SMALL)
    expected = torch.zeros_like(latent)
    for region, weight, (rows, cols) in zip(sampled, weights, boxes, strict=True):
        expected[..., rows, cols] += region * weight[..., rows, cols]
    restored, _ = sample_segments(model, latent, quarters(), SMALL)
    assert torch.allclose(restored, expected, atol=1e-5)


def corner():
    """A square of 14x14 px in the corner; beside it lies an L, whose box is the whole canvas of 20x20."""
    segments = torch.zeros(20, 20, dtype=torch.long)
    segments[6:, 6:] = 1
    return segments


def test_tiles_without_the_segment_are_not_evaluated(model):
    config = replace(SMALL.uniform(1), overlap=0)
    _, report = sample_segments(model, draw(1, 4, 20, 20), corner(), config)
    # The L's tiles begin at 0, 8 and 12, and the square's at 6 and 12.
    places = [(tile.top, tile.left) for tile in report.tiles if tile.outcome == "untouched"]
    assert sorted(places) == [(8, 8), (8, 12), (12, 8), (12, 12)]
    places = [(tile.top, tile.left) for tile in report.tiles if tile.nfe == 6]
    assert sorted(places) == [(0, 0), (0, 8), (0, 12), (6, 6), (6, 12), (8, 0), (12, 0), (12, 6), (12, 12)]


@pytest.mark.parametrize("make_segments", [quarters, corner])
def test_without_a_border_segments_know_nothing_of_each_other(make_segments, model):
    """Outside itself a segment is zero, whatever the picture is there."""
    segments, config = make_segments(), replace(SMALL, overlap=0)
    latent = draw(1, 4, *segments.shape)
    before, _ = sample_segments(model, latent, segments, config)
    after, _ = sample_segments(model, latent + (segments == 1), segments, config)
    differs = (before != after).any(dim=1)[0]
    assert bool(differs[segments == 1].all())
    assert not bool(differs[segments != 1].any())


def test_what_makes_no_sense_is_refused(model):
    with pytest.raises(ShapeError, match="one picture"):
        upscale_superpixels(model, draw(2, 3, 8, 8), (32, 32), SMALL)
    with pytest.raises(ConfigError, match="at least 1 segment"):
        upscale_superpixels(model, draw(1, 3, 8, 8), (32, 32), SMALL, segments=0)
    with pytest.raises(ConfigError, match="at least 1x1 px"):
        upscale_superpixels(model, draw(1, 3, 8, 8), (0, 32), SMALL)


def test_missing_scikit_image_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingExtraError, match=r"adadiffsr\[eval\]"):
        find_segments(draw(1, 3, 8, 8), 3)
