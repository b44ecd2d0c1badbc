"""The compute mask: a tile gets the most that any of its pixels asks for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ShapeError
from adadiffsr_core.sampling.compute_mask import (
    FEATHER_PX,
    find_needed,
    fit_pixels,
    keep_pixels,
    keep_untouched,
    mask_to_levels,
    pool_latents,
    tile_levels,
)
from adadiffsr_core.sampling.tiles import build_grid

GRID = build_grid(12, 20, 8, 2)


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(height=st.integers(1, 30), width=st.integers(1, 30), masks=st.sampled_from([1, 3]), seed=st.integers(0, 99))
def test_levels_are_the_highest_of_each_tile(height, width, masks, seed):
    grid, mask = build_grid(height, width, 8, 3), draw(masks, 1, height, width, seed=seed)
    levels = tile_levels(mask, grid, 3)
    assert levels.shape == (3 * grid.count,)
    assert (levels.dtype, levels.device.type) == (torch.float32, "cpu")
    for tile_id, level in enumerate(levels.tolist()):
        image, top, left = grid.locate(tile_id)
        inside = mask[image % masks, 0, top : top + 8, left : left + 8]  # reflection brings in no new values
        assert level == pytest.approx(float(inside.max()))


def test_a_single_pixel_counts_in_every_tile_that_holds_it():
    mask = torch.zeros(1, 1, 12, 20)
    mask[0, 0, 5, 7] = 0.25
    expected = [0.25 if top <= 5 < bottom and left <= 7 < right else 0.0 for top, left, bottom, right in GRID.boxes]
    assert tile_levels(mask, GRID, 1).tolist() == expected
    assert 1 < sum(level > 0 for level in expected) < GRID.count


def test_untouched_places_come_back_to_the_bit():
    restored, lq_latent = draw(2, 4, 12, 20), draw(2, 4, 12, 20, seed=1)
    mask = (draw(1, 1, 12, 20, seed=2) - 0.5).clamp_min(0)
    kept = keep_untouched(restored, lq_latent, mask)
    untouched = (mask == 0).expand(2, 4, -1, -1)
    assert 0 < untouched.sum() < untouched.numel()
    assert torch.equal(kept[untouched], lq_latent[untouched])
    assert torch.equal(kept[~untouched], restored[~untouched])


@pytest.mark.parametrize(
    "mask",
    [
        torch.zeros(12, 20),
        torch.zeros(1, 3, 12, 20),
        torch.zeros(2, 1, 12, 20),
        torch.zeros(1, 1, 20, 12),
        torch.full((1, 1, 12, 20), 1.01),
        torch.full((1, 1, 12, 20), -0.01),
        torch.full((1, 1, 12, 20), torch.nan),
    ],
    ids=["2d", "colour", "two of three", "turned", "above 1", "below 0", "nan"],
)
def test_masks_that_do_not_fit_are_refused(mask):
    with pytest.raises(ShapeError, match="compute mask must"):
        tile_levels(mask, GRID, 3)


@settings(max_examples=30)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_pixels_of_a_larger_picture_are_black_where_their_centres_are(height, width, seed):
    mask = (draw(1, 1, 5, 7, seed=seed) > 0.5).float()
    fitted = fit_pixels(mask, (height * 5, width * 7))
    assert torch.equal(fitted, mask.repeat_interleave(height, 2).repeat_interleave(width, 3))


def test_a_smaller_picture_is_black_only_where_all_it_stands_for_is():
    mask = torch.zeros(1, 1, 100, 60)
    mask[..., 55, 33] = 1 / 255
    fitted = fit_pixels(mask, (10, 6))
    assert (fitted > 0).nonzero().tolist() == [[0, 0, 5, 3]]


def test_latents_beyond_the_border_repeat_it():
    mask = torch.zeros(1, 1, 9, 20)
    mask[..., 8, 19] = 0.5
    assert pool_latents(mask, 8).tolist() == [[[[0, 0, 0], [0, 0, 0.5 * 8 * 5 / 64]]]]


def test_what_is_looked_at_is_the_tiles_that_run_and_a_margin():
    mask = torch.zeros(1, 1, 12, 20)
    mask[..., 11, 19] = 1.0
    needed = find_needed(mask, GRID, 2, reach=2)
    top, left, bottom, right = GRID.boxes[-1]
    assert needed[top:bottom, left:right].all()
    assert needed.sum() == (bottom - top) * (right - left)
    assert find_needed(mask, GRID, 2, reach=9)[2:, 10:].all()
    assert not find_needed(torch.zeros(1, 1, 12, 20), GRID, 2, reach=9).any()


def test_black_pixels_come_back_to_the_bit_with_a_short_way_over():
    restored, original = draw(2, 3, 40, 60), draw(2, 3, 40, 60, seed=1)
    mask = torch.ones(1, 1, 40, 60)
    mask[..., :30] = 0
    kept = keep_pixels(restored, original, mask)
    assert torch.equal(kept[..., :30], original[..., :30])
    assert torch.equal(kept[..., 30 + FEATHER_PX :], restored[..., 30 + FEATHER_PX :])
    share = keep_pixels(torch.ones(1, 1, 40, 60), torch.zeros(1, 1, 40, 60), mask)[0, 0, 20, 29 : 31 + FEATHER_PX]
    assert (share.diff() >= 0).all()
    assert share.diff().max() < 0.2


def test_without_black_nothing_is_kept():
    restored = draw(1, 3, 9, 9)
    assert keep_pixels(restored, draw(1, 3, 9, 9, seed=1), torch.full((1, 1, 9, 9), 1 / 255)) is restored


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (1, 1, 5, 7), (3, 5, 7), (3, 1, 5, 7)])
def test_a_mask_of_the_hosts_may_have_any_number_of_axes(shape):
    mask = draw(*shape)
    assert torch.equal(mask_to_levels(mask, "levels"), mask.reshape(-1, 5, 7))


@pytest.mark.parametrize("means", ["more", "only", "levels"])
def test_what_rounding_leaves_beyond_the_range_is_no_mistake(means):
    mask = torch.tensor([[-1e-7, 0.5, 1 + 1e-7]])
    assert torch.equal(mask_to_levels(mask, means), mask_to_levels(mask.clamp(0, 1), means))


@pytest.mark.parametrize("means", ["more", "only", "levels"])
@pytest.mark.parametrize("value", [-0.1, 1.05, 255.0, float("nan"), float("inf")])
def test_a_value_that_is_no_level_is_named(value, means):
    with pytest.raises(ShapeError, match=r"must lie between 0 and 1, got values from .* clamp it, or divide levels"):
        mask_to_levels(torch.tensor([[value, 0.5]]), means)


@pytest.mark.parametrize("shape", [(), (5,), (0, 5, 7), (1, 0, 7)])
def test_a_mask_without_pixels_is_refused(shape):
    with pytest.raises(ShapeError, match="a compute mask must be"):
        mask_to_levels(torch.zeros(shape), "levels")
