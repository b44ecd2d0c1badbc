"""The tile grid: hand-written tables, a brute-force second implementation of the fit, and coverage for any size."""

from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.sampling.tiles import (
    TileGrid,
    build_grid,
    crop_canvas,
    crop_tiles,
    evaluated_area,
    fit_grid,
    pad_canvas,
)

SIDE = st.integers(1, 200)


@st.composite
def grid_sizes(draw):
    multiple = draw(st.integers(1, 8))
    tile = multiple * draw(st.integers(1, 12))
    overlap = draw(st.integers(0, tile - 1))
    height, width = draw(SIDE), draw(SIDE)
    assume((1 + height // (tile - overlap)) * (1 + width // (tile - overlap)) <= 2000)
    return height, width, tile, overlap, multiple


def numbered_canvas(images, height, width):
    return torch.arange(images * 2 * height * width, dtype=torch.float32).view(images, 2, height, width)


def covered(starts, side, length):
    return sorted({start + offset for start in starts for offset in range(side)}) == list(range(length))


@pytest.mark.parametrize(
    ("height", "width", "tops", "lefts", "padded"),
    [
        (64, 64, (0,), (0,), (64, 64)),
        (64, 65, (0,), (0, 1), (64, 65)),
        (120, 121, (0, 56), (0, 56, 57), (120, 121)),
        (128, 128, (0, 56, 64), (0, 56, 64), (128, 128)),
        (1, 176, (0,), (0, 56, 112), (2, 176)),
        (1, 1, (0,), (0,), (2, 2)),
    ],
)
def test_build_grid_matches_the_table(height, width, tops, lefts, padded):
    grid = build_grid(height, width, tile=64, overlap=8)
    assert grid == TileGrid((height, width), tuple(min(max(side, 2), 64) for side in (height, width)), tops, lefts)
    assert grid.padded == padded
    assert (grid.rows, grid.cols, grid.count) == (len(tops), len(lefts), len(tops) * len(lefts))


@pytest.mark.parametrize(
    ("height", "width", "multiple", "tile", "tops", "lefts"),
    [
        (128, 128, 4, (68, 68), (0, 60), (0, 60)),
        (128, 128, 8, (72, 72), (0, 56), (0, 56)),  # 68 is no multiple of 8
        (64, 64, 4, (64, 64), (0,), (0,)),
        (10, 152, 4, (12, 80), (0,), (0, 72)),
        (66, 68, 4, (68, 68), (0,), (0,)),  # padding by 2 costs less than a second row
        (256, 300, 4, (72, 68), (0, 61, 122, 184), (0, 58, 116, 174, 232)),
        (160, 160, 4, (64, 64), (0, 48, 96), (0, 48, 96)),  # two tiles would have to be 84: spread three
    ],
)
def test_fit_grid_matches_the_table(height, width, multiple, tile, tops, lefts):
    grid = fit_grid(height, width, tile=64, overlap=8, multiple=multiple)
    assert grid == TileGrid((height, width), tile, tops, lefts)


def test_evaluated_area_gives_the_design_numbers():
    assert evaluated_area(build_grid(128, 128, 64, 8)) == 2.25
    assert evaluated_area(fit_grid(128, 128, 64, 8, multiple=4)) == pytest.approx(1.1289, abs=1e-4)
    assert evaluated_area(build_grid(1, 1, 64, 8, 8)) == 256


@settings(deadline=None)
@given(grid_sizes())
def test_every_grid_covers_its_canvas_with_the_overlap_asked(sizes):
    height, width, tile, overlap, multiple = sizes
    for grid in (
        build_grid(height, width, tile, overlap, multiple),
        fit_grid(height, width, tile, overlap, multiple=multiple),
    ):
        assert grid.canvas == (height, width)
        for starts, side, length, padded in zip(
            (grid.tops, grid.lefts), grid.tile, grid.canvas, grid.padded, strict=True
        ):
            assert covered(starts, side, padded)  # and so no tile leaves the padded canvas
            assert padded == max(length, side)
            assert all(0 < later - start <= side - overlap for start, later in pairwise(starts))


@settings(deadline=None)
@given(grid_sizes())
def test_fit_grid_spreads_evenly_and_within_the_stretch(sizes):
    height, width, tile, overlap, multiple = sizes
    grid = fit_grid(height, width, tile, overlap, multiple=multiple)
    for starts, side, length in zip((grid.tops, grid.lefts), grid.tile, grid.canvas, strict=True):
        gaps = [later - start for start, later in pairwise(starts)]
        assert not gaps or max(gaps) - min(gaps) <= 1
        assert side % multiple == 0
        least = min(tile, 2 * multiple)
        assert tile <= side <= 1.25 * tile if length > tile else length <= side < max(length, least) + multiple


@settings(deadline=None)
@given(grid_sizes())
def test_fit_grid_evaluates_the_least_area(sizes):
    height, width, tile, overlap, multiple = sizes
    least_side = min(tile, 2 * multiple)
    sides = [side for side in range(least_side, 2 * tile, multiple) if side <= 1.25 * tile]
    least = min(
        (rows * tile_height * cols * tile_width, tile_height * tile_width)
        for tile_height in sides
        for tile_width in sides
        if tile_height >= min(height, tile) and tile_width >= min(width, tile)
        for rows in [build_grid(height, 1, tile_height, min(overlap, tile_height - 1)).rows]
        for cols in [build_grid(1, width, tile_width, min(overlap, tile_width - 1)).cols]
    )
    grid = fit_grid(height, width, tile, overlap, multiple=multiple)
    assert (grid.count * grid.tile[0] * grid.tile[1], grid.tile[0] * grid.tile[1]) == least
    assert evaluated_area(grid) <= evaluated_area(build_grid(height, width, tile, overlap, multiple))


@settings(deadline=None)
@given(grid_sizes(), st.integers(1, 3))
def test_locate_agrees_with_boxes(sizes, images):
    grid = build_grid(*sizes)
    for tile_id in {0, grid.count - 1, grid.count * images - 1, grid.count // 2}:
        image, top, left = grid.locate(tile_id)
        assert grid.boxes[tile_id - image * grid.count] == (top, left, top + grid.tile[0], left + grid.tile[1])
    assert len(grid.boxes) == grid.count
    assert list(grid.boxes) == sorted(grid.boxes)  # row-major


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_pad_canvas_reflects_to_and_fro_and_crop_canvas_undoes_it(height, width, tile):
    grid = build_grid(height, width, tile, overlap=0, multiple=tile)
    canvas = numbered_canvas(2, height, width)
    padded = pad_canvas(canvas, grid)

    def mirrored(index, length):
        step = 1  # walk to and fro
        position = 0
        for _ in range(index if length > 1 else 0):
            if not 0 <= position + step < length:
                step = -step
            position += step
        return position

    rows = [mirrored(row, height) for row in range(grid.padded[0])]
    cols = [mirrored(col, width) for col in range(grid.padded[1])]
    assert torch.equal(padded, canvas[:, :, rows][..., cols])
    assert torch.equal(crop_canvas(padded, grid), canvas)
    assert crop_canvas(padded, grid).is_contiguous()


def test_pad_canvas_agrees_with_torch_where_torch_can():
    canvas = numbered_canvas(1, 40, 50)
    expected = torch.nn.functional.pad(canvas, (0, 14, 0, 24), mode="reflect")
    assert torch.equal(pad_canvas(canvas, build_grid(40, 50, 64, 8, 64)), expected)


def test_pad_canvas_copies_nothing_without_need():
    canvas = numbered_canvas(1, 64, 80)
    assert pad_canvas(canvas, build_grid(64, 80, 64, 8)) is canvas


def test_crop_tiles_takes_any_tiles_of_any_images_in_any_order():
    grid = build_grid(20, 30, tile=8, overlap=2)
    canvas = numbered_canvas(3, 20, 30)
    tile_ids = [2 * grid.count + 5, 0, grid.count - 1, grid.count, 0]
    tiles = crop_tiles(canvas, grid, tile_ids)
    assert tiles.shape == (5, 2, 8, 8)
    for tile, tile_id in zip(tiles, tile_ids, strict=True):
        top, left, bottom, right = grid.boxes[tile_id % grid.count]
        assert torch.equal(tile, canvas[tile_id // grid.count, :, top:bottom, left:right])


def test_crop_tiles_copies():
    canvas = numbered_canvas(1, 8, 8)
    tiles = crop_tiles(canvas, build_grid(8, 8, 8, 0), [0])
    tiles.zero_()
    assert canvas[0, 1, 7, 7] == 127


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((0, 64, 64, 8, 1), "the latent is 64x0; it must be at least 1x1"),
        ((64, -1, 64, 8, 1), "the latent is -1x64; it must be at least 1x1"),
        ((64, 64, 0, 0, 1), "tile size 0 and its multiple 1 must be at least 1"),
        ((64, 64, 64, 8, 0), "tile size 64 and its multiple 0 must be at least 1"),
        ((64, 64, 64, 64, 1), "overlap 64 does not fit tiles of 64 latent px; use 0 to 63"),
        ((64, 64, 64, -1, 1), "overlap -1 does not fit"),
        ((64, 64, 62, 8, 4), "tile size 62 latent px is not a multiple of 4; use 60 or 64"),
        ((64, 64, 3, 0, 4), "tile size 3 latent px is not a multiple of 4; use 4"),
    ],
)
def test_impossible_settings_are_refused(values, sentence):
    height, width, tile, overlap, multiple = values
    with pytest.raises(ConfigError, match=sentence):
        build_grid(height, width, tile, overlap, multiple)
    with pytest.raises(ConfigError, match=sentence):
        fit_grid(height, width, tile, overlap, multiple=multiple)


@pytest.mark.parametrize("max_stretch", [0.99, -1, float("nan"), float("inf")])
def test_impossible_stretch_is_refused(max_stretch):
    with pytest.raises(ConfigError, match="cannot be stretched"):
        fit_grid(64, 64, 64, 8, multiple=4, max_stretch=max_stretch)


def test_wrong_canvases_and_tiles_are_refused():
    grid = build_grid(10, 12, tile=16, overlap=2, multiple=16)
    with pytest.raises(ShapeError, match=r"needs \[N, C, 10, 12\]"):
        pad_canvas(torch.zeros(1, 4, 10, 13), grid)
    with pytest.raises(ShapeError, match=r"needs \[N, C, 16, 16\]"):
        crop_tiles(torch.zeros(1, 4, 10, 12), grid, [0])
    with pytest.raises(ShapeError, match="needs"):
        crop_canvas(torch.zeros(4, 16, 16), grid)
    for tile_ids in ([], [2], [0, -1]):
        with pytest.raises(ShapeError, match="not among the 2 tiles"):
            crop_tiles(torch.zeros(2, 4, 16, 16), grid, tile_ids)
