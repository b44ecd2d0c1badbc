"""The Gaussian merge against a naive double loop, and what must hold for any grid."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.sampling import merge
from adadiffsr_core.sampling.merge import StripBuilder, TileMerger, merge_strips, merge_tiles
from adadiffsr_core.sampling.tiles import build_grid, crop_tiles, fit_grid, pad_canvas
from tests.devices import strictly

SIZES = [(64, 64), (128, 128), (70, 150), (1, 1), (1, 200), (131, 3), (40, 65)]


def seeded(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def all_ids(grid, images):
    return range(images * grid.count)


def naive_merge(tiles, grid, images, spread):
    """`sum(w*x) / sum(w)` pixel by pixel in Python floats."""
    height, width = grid.tile
    merged = torch.zeros(images, tiles.shape[1], *grid.padded, dtype=torch.float64)
    total = torch.zeros(grid.padded, dtype=torch.float64)
    for image in range(images):
        for tile, (top, left, _, _) in zip(tiles[image * grid.count :], grid.boxes, strict=False):
            for y in range(height):
                for x in range(width):
                    dy, dx = (y - (height - 1) / 2) / height, (x - (width - 1) / 2) / width
                    weight = math.exp(-(dy**2 + dx**2) / (2 * spread**2))
                    merged[image, :, top + y, left + x] += weight * tile[:, y, x].double()
                    total[top + y, left + x] += weight / images
    return (merged / total)[..., : grid.canvas[0], : grid.canvas[1]].float()


@pytest.mark.parametrize("spread", [0.06, 0.1, 0.4])
def test_merge_matches_the_naive_double_loop(spread):
    for grid in (build_grid(14, 20, 8, 3), fit_grid(20, 5, 8, 2, multiple=2)):
        tiles = seeded(2 * grid.count, 3, *grid.tile)
        torch.testing.assert_close(
            merge_tiles(tiles, grid, spread), naive_merge(tiles, grid, 2, spread), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("spread", [0.02, 0.1, 10.0])
def test_crops_give_their_canvas_back(size, spread):
    canvas = seeded(2, 4, *size)
    for grid in (build_grid(*size, 64, 8), fit_grid(*size, 64, 8, multiple=4)):
        tiles = crop_tiles(pad_canvas(canvas, grid), grid, all_ids(grid, 2))
        torch.testing.assert_close(merge_tiles(tiles, grid, spread), canvas, rtol=1e-6, atol=1e-6)


# Below 1e-30 a weighted share of the value leaves float32's normal range, where nothing is exact to 1e-6.
CONSTANTS = st.one_of(st.just(0.0), st.floats(2.0**-100, 1e3, width=32), st.floats(-1e3, -(2.0**-100), width=32))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 24), st.data(), CONSTANTS)
def test_a_merged_constant_stays_constant(height, width, tile, data, value):
    grid = build_grid(height, width, tile, data.draw(st.integers(0, tile * 3 // 4)))
    merged = merge_tiles(torch.full((grid.count, 1, *grid.tile), value), grid)
    assert merged.shape == (1, 1, height, width)
    torch.testing.assert_close(merged, torch.full_like(merged, value), rtol=1e-6, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 24), st.data())
def test_merge_weights_are_a_partition_of_unity(height, width, tile, data):
    grid = build_grid(height, width, tile, data.draw(st.integers(0, tile * 3 // 4)))
    merger = StripBuilder(grid)
    total = torch.zeros(1, 1, *grid.padded)
    for tile_id, (top, left, bottom, right) in enumerate(grid.boxes):
        weight = merger.merge_weight(tile_id)
        assert weight.shape == (1, 1, *grid.tile)
        assert weight.dtype == torch.float32
        assert weight.min() > 0
        total[..., top:bottom, left:right] += weight
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


def test_a_tile_comes_through_to_the_bit_where_it_lies_alone():
    grid = build_grid(64, 120, 64, 8)
    tiles = seeded(grid.count, 4, 64, 64)
    merged = merge_tiles(tiles, grid)[0]
    assert torch.equal(merged[..., :56], tiles[0, ..., :56])  # corners too, where the Gaussian is 1e-11
    assert torch.equal(merged[..., 64:], tiles[1, ..., 8:])


def test_the_seam_is_smooth():
    """Two flat tiles of 0 and 1 meet in a monotone slope that starts and ends within 1 % of either."""
    grid = build_grid(64, 120, 64, 8)
    tiles = torch.stack([torch.zeros(1, 64, 64), torch.ones(1, 64, 64)])
    slope = merge_tiles(tiles, grid)[0, 0, 31, 55:65]
    assert (slope[0], slope[-1]) == (0, 1)
    assert torch.all(slope.diff() > 0)
    assert slope[1] < 0.01
    assert slope[-2] > 0.99
    torch.testing.assert_close(slope + slope.flip(0), torch.ones(10), rtol=0, atol=1e-6)


def test_tiles_may_come_in_any_order_and_in_batches_of_any_size():
    grid = build_grid(50, 40, 16, 6)
    ids = list(all_ids(grid, 3))
    tiles = seeded(len(ids), 4, 16, 16)
    expected = merge_tiles(tiles, grid)
    shuffle = random.Random(0)
    for batch in (1, 7, 64):
        shuffle.shuffle(ids)
        merger = TileMerger(grid, images=3)
        for start in range(0, len(ids), batch):
            merger.add(ids[start : start + batch], tiles[ids[start : start + batch]])
        assert torch.equal(merger.finish(), expected)


def test_images_of_a_batch_do_not_mix():
    grid = build_grid(20, 30, 16, 4)
    tiles = seeded(2 * grid.count, 2, 16, 16)
    together = merge_tiles(tiles, grid)
    apart = torch.cat([merge_tiles(half, grid) for half in tiles.split(grid.count)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_canvas_has_the_dtype_of_the_tiles_and_is_summed_in_float32(dtype):
    grid = build_grid(30, 30, 16, 8)
    tiles = seeded(grid.count, 4, 16, 16).to(dtype)
    merged = merge_tiles(tiles, grid)
    assert merged.dtype == dtype
    assert torch.equal(merged, merge_tiles(tiles.float(), grid).to(dtype))


def test_the_tiles_are_left_as_they_were():
    grid = build_grid(30, 30, 16, 8)
    tiles = seeded(grid.count, 4, 16, 16)
    before = tiles.clone()
    merge_tiles(tiles, grid).zero_()
    assert torch.equal(tiles, before)


def test_missing_repeated_and_foreign_tiles_are_refused():
    grid = build_grid(20, 20, 16, 4)
    merger = TileMerger(grid)
    with pytest.raises(ShapeError, match="4 of 4 tiles were never added"):
        merger.finish()
    merger.add([2, 0], torch.zeros(2, 4, 16, 16))
    with pytest.raises(ShapeError, match="2 of 4 tiles were never added"):
        merger.finish()
    for tile_ids in ([0], [1, 1], [4], [-1]):
        with pytest.raises(ShapeError, match="added before, or is not on this grid"):
            merger.add(tile_ids, torch.zeros(len(tile_ids), 4, 16, 16))
    for tiles in (torch.zeros(1, 4, 16, 15), torch.zeros(2, 4, 16, 16), torch.zeros(4, 16, 16)):
        with pytest.raises(ShapeError, match=r"expected \[1, C, 16, 16\]"):
            merger.add([1], tiles)


def test_impossible_merges_are_refused():
    grid = build_grid(20, 20, 16, 4)
    for count in (0, 5):
        with pytest.raises(ShapeError, match="expected 4 for each image"):
            merge_tiles(torch.zeros(count, 4, 16, 16), grid)
    for spread in (0.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=r"too small; use at least 0\.02"):
            TileMerger(grid, spread=spread)
    with pytest.raises(ConfigError, match="at least 1"):
        TileMerger(grid, images=0)


@pytest.mark.parametrize("changed", [[0], [3, 1, 6], list(range(8))])
def test_changed_tiles_are_merged_as_if_they_had_always_been_so(changed):
    grid = build_grid(20, 20, 12, 4)
    before, after = seeded(2 * grid.count, 3, 12, 12), seeded(2 * grid.count, 3, 12, 12, seed=1)
    assert len(before) == 8
    merger = TileMerger(grid, 2)
    merger.add(range(8), before)
    merger.update(changed, before[changed], after[changed])
    now = before.clone()
    now[changed] = after[changed]
    torch.testing.assert_close(merger.finish(), merge_tiles(now, grid), rtol=0, atol=1e-6)
    if len(changed) == 8:
        assert torch.equal(merger.finish(), merge_tiles(after, grid))


def test_nothing_is_changed_before_it_was_added():
    with pytest.raises(ShapeError, match="none to change"):
        TileMerger(build_grid(8, 8, 8, 0)).update([0], seeded(1, 3, 8, 8), seeded(1, 3, 8, 8))


def test_merging_on_a_device_waits_for_nothing(monkeypatch):
    grid, device = build_grid(20, 20, 12, 4), torch.device("meta")
    merger, tiles = TileMerger(grid), torch.zeros(4, 3, 12, 12, device="meta")
    with strictly(device, monkeypatch, merge, "send"):
        merger.add(range(4), tiles)
        merger.update([1, 2], tiles[1:3], tiles[1:3])
        merger.update(range(4), tiles, tiles)
        assert merger.finish().device == device


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(4, 20), st.data())
def test_strips_give_the_canvas_from_any_row_on(height, width, tile, data):
    grid = build_grid(height, width, tile, data.draw(st.integers(0, tile * 3 // 4)))
    tiles, builder = seeded(grid.count, 2, *grid.tile), StripBuilder(grid)
    strips = [builder.build(row, list(tiles[row * grid.cols : (row + 1) * grid.cols])) for row in range(grid.rows)]
    whole = merge_tiles(tiles, grid)[0]
    first = data.draw(st.integers(0, grid.rows - 1))
    rows = torch.cat(list(merge_strips(strips[first:], grid, first)), dim=1)[:, : height - grid.tops[first], :width]
    wrong = max((top + grid.tile[0] for top in grid.tops[:first]), default=0)  # what tiles above reach
    assert torch.equal(rows[:, max(0, wrong - grid.tops[first]) :], whole[:, max(wrong, grid.tops[first]) :])
