"""The compute mask: a tile gets the most that any of its pixels asks for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.compute_mask import keep_untouched, tile_levels
from adadiffsr_core.errors import ShapeError
from adadiffsr_core.tiles import build_grid

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
