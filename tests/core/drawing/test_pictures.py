import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.drawing.pictures import CLASS_COLOURS, LONG_SIDE_PX, draw_comparison, draw_region_map
from adadiffsr_core.drawing.primitives import PAPER, VIRIDIS, flow_rows, ramp_colour, stack_pictures, text_item
from adadiffsr_core.drawing.regions import TILE_CLASSES, Region, regions_to_mask, split_overlaps
from adadiffsr_core.errors import ConfigError, ShapeError


def starts(total, size, overlap):
    """Tiles one after another, the last shifted inwards, as in section 3.3 of the paper."""
    if total <= size:
        return [0]
    return sorted({*range(0, total - size, size - overlap), total - size})


def make_regions(height, width, size, overlap=0, nfe=7, tile_class="stable"):
    return [
        Region(top_px=top, left_px=left, height_px=size, width_px=size, nfe=nfe, max_nfe=20, tile_class=tile_class)
        for top in starts(height, size, overlap)
        for left in starts(width, size, overlap)
    ]


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(8, 96),
    overlap=st.integers(0, 7),
    seed=st.integers(0, 9),
)
def test_cells_partition_the_picture_and_stay_in_their_tiles(height, width, size, overlap, seed):
    regions = make_regions(height, width, size, overlap)
    random.Random(seed).shuffle(regions)
    covered = np.zeros((height, width), dtype=int)
    for region, (left, top, right, bottom) in zip(regions, split_overlaps(regions, height, width), strict=True):
        covered[top:bottom, left:right] += 1
        assert region.left_px <= left < right <= region.left_px + region.width_px
        assert region.top_px <= top < bottom <= region.top_px + region.height_px
    assert (covered == 1).all()


def test_neighbours_share_their_overlap_half_and_half():
    cells = split_overlaps(make_regions(64, 150, 64, 8), 64, 150)
    assert cells == [(0, 0, 60, 64), (60, 0, 103, 64), (103, 0, 150, 64)]  # tiles begin at 0, 56 and 86


@given(
    height=st.integers(8, 200),
    width=st.integers(8, 200),
    size=st.integers(16, 96),
    zoom=st.sampled_from([(1, 1), (2, 2), (3, 1), (1, 4)]),
    seed=st.integers(0, 9),
)
def test_mask_is_grey_at_the_mean_and_white_at_twice_as_much(height, width, size, zoom, seed):
    shuffled = random.Random(seed)
    regions = [
        replace(region, nfe=shuffled.randint(0, 20), tile_class="growing")
        for region in make_regions(height, width, size, 7)
    ]
    shuffled.shuffle(regions)
    mask = regions_to_mask(regions, (height, width), (height * zoom[0], width * zoom[1]))
    naive = np.full((height, width), np.nan)
    for region, (left, top, right, bottom) in zip(regions, split_overlaps(regions, height, width), strict=True):
        naive[top:bottom, left:right] = region.nfe
    mean = np.mean([region.nfe for region in regions])
    naive = np.minimum(naive / (2 * mean or 1), 1)
    assert mask.dtype == torch.float32
    np.testing.assert_allclose(mask.numpy(), naive.repeat(zoom[0], 0).repeat(zoom[1], 1), rtol=1e-6)


@given(size=st.tuples(st.integers(1, 70), st.integers(1, 70)))
def test_mask_of_any_size_is_filled(size):
    regions = make_regions(130, 190, 64, 8, nfe=10)
    mask = regions_to_mask(regions, (130, 190), size)
    assert mask.shape == size
    assert (mask == 0.5).all()


def test_regions_that_are_no_grid_are_refused():
    regions = make_regions(128, 128, 64)
    for wrong in ([], regions[:3], [*regions, regions[0]]):
        with pytest.raises(ShapeError, match="do not make a grid"):
            split_overlaps(wrong, 128, 128)
    with pytest.raises(ShapeError, match="outside the picture of 64 x 128 px"):
        split_overlaps(regions, 128, 64)


def test_region_refuses_an_unknown_class():
    with pytest.raises(ConfigError, match="growing, stable, saturated, untouched; got 'done'"):
        make_regions(8, 8, 8, tile_class="done")


def test_every_class_has_a_colour():
    assert set(CLASS_COLOURS) == set(TILE_CLASSES)
    assert len(set(CLASS_COLOURS.values())) == len(TILE_CLASSES)


def test_ramp_passes_through_its_table_and_grows_brighter():
    assert [ramp_colour(n / 8) for n in range(9)] == list(VIRIDIS)
    assert (ramp_colour(-1), ramp_colour(2)) == (VIRIDIS[0], VIRIDIS[-1])
    luma = np.array([ramp_colour(share) for share in np.linspace(0, 1, 50)]) @ (0.299, 0.587, 0.114)
    assert (np.diff(luma) > 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 900), (900, 1), (64, 64), (700, 1000), (100, 5000)])
def test_region_map_has_the_photo_on_top_of_a_legend(height, width):
    picture = draw_region_map(torch.full((3, height, width), 0.5), make_regions(height, width, 64, 8))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    photo = (picture != PAPER).any(2)
    zoomed = max(height, width) * picture.shape[1] / max(width, 1)
    assert zoomed >= LONG_SIDE_PX[0] or picture.shape[0] >= LONG_SIDE_PX[0]
    assert picture.shape[1] <= LONG_SIDE_PX[1]
    assert (picture[-1] == PAPER).all()
    assert photo[-100:].any()


def cell_colour(region, grey=0.5):
    """A pixel between border and number, of a photo that is one cell of even grey."""
    picture = draw_region_map(torch.full((3, 700, 700), grey), [region])
    return picture[100, 100].astype(int)


def test_cell_is_tinted_by_its_share_of_evaluations():
    (region,) = make_regions(700, 700, 700)
    muted = np.full(3, 0.75 * 128)
    for nfe, end in ((0, 5), (3, 5), (5, 5), (15, 15), (20, 20)):  # of 20 steps, a quarter of which are bright already
        tinted = 0.58 * muted + 0.42 * np.array(ramp_colour(nfe / end))
        assert np.abs(cell_colour(replace(region, nfe=nfe)) - tinted).max() <= 2
    assert np.abs(cell_colour(replace(region, nfe=0, tile_class="untouched")) - muted).max() <= 2


@pytest.mark.parametrize("tile_class", TILE_CLASSES)
def test_border_shows_the_class(tile_class):
    picture = draw_region_map(torch.zeros(3, 700, 700), make_regions(700, 700, 700, tile_class=tile_class))
    assert tuple(picture[1, 350]) == CLASS_COLOURS[tile_class]
    assert tuple(picture[350, 698]) == CLASS_COLOURS[tile_class]


def test_number_and_label_are_those_of_the_cell():
    left, right = make_regions(350, 700, 350)
    photo = torch.full((3, 350, 700), 0.5)

    def middle(**changes):
        """Of the left cell; the tint is the same, so that only the writing may differ."""
        changed = replace(left, nfe=11, max_nfe=11, **changes)
        return draw_region_map(photo, [changed, replace(right, nfe=11, max_nfe=11, tile_class="untouched")])[
            75:275, 75:275
        ]

    eleven, other_class = middle(), middle(tile_class="growing")
    assert (eleven > 230).all(2).any()
    assert not np.array_equal(eleven, other_class)
    assert np.array_equal(eleven, middle())


def test_a_class_that_all_cells_have_is_left_to_the_legend():
    photo = torch.full((3, 350, 700), 0.5)
    stable, growing = (
        draw_region_map(photo, make_regions(350, 700, 350, nfe=11, tile_class=name))[75:275, 75:275]
        for name in ("stable", "growing")
    )
    assert np.array_equal(stable, growing)


def test_region_map_says_what_was_saved():
    regions = make_regions(256, 1024, 256)
    photo = torch.zeros(3, 256, 1024)
    legend = draw_region_map(photo, regions)[256:]
    expected = np.array(text_item("28 of 80 evaluations", 13))
    size = expected.shape
    windows = np.lib.stride_tricks.sliding_window_view(legend, size)[:, :, 0]
    assert (windows == expected).all((2, 3, 4)).sum() == 1


def test_regions_without_any_step_are_drawn():
    regions = [replace(region, nfe=0, max_nfe=0) for region in make_regions(64, 64, 64, tile_class="untouched")]
    assert draw_region_map(torch.zeros(3, 64, 64), regions).shape[1] == 640


def test_comparison_shows_every_image_at_its_own_pixels():
    colours = torch.eye(3)[:, :, None, None]
    picture = draw_comparison([(f"image {n}", colours[n].expand(3, 300, 300)) for n in range(3)])
    assert picture.dtype == np.uint8
    for n in range(3):
        assert (picture == np.eye(3, dtype=int)[n] * 255).all(2).sum() == 300 * 300


def test_comparison_brings_images_to_one_height():
    picture = draw_comparison([("small", torch.ones(3, 75, 100)), ("large", torch.ones(3, 300, 400))])
    assert (picture[50:300] == 255).all(2).sum(1).tolist() == [800] * 250


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (300, 4000)])
def test_comparison_of_any_size_stays_within_bounds(size):
    picture = draw_comparison([("a", torch.zeros(3, 1, 1).expand(3, *size))] * 3)
    assert picture.shape[1] <= 2 * LONG_SIDE_PX[1] + 100
    assert (picture != PAPER).any()


def test_pictures_refuse_other_shapes():
    with pytest.raises(ShapeError, match="at least one image"):
        draw_comparison([])
    for shape in ((1, 8, 8), (3, 8), (3, 0, 8), (1, 3, 8, 8)):
        with pytest.raises(ShapeError, match=r"\[3, H, W\]"):
            draw_comparison([("a", torch.zeros(shape))])
        with pytest.raises(ShapeError, match=r"\[3, H, W\]"):
            draw_region_map(torch.zeros(shape), make_regions(8, 8, 8))


def test_values_outside_the_range_are_clamped_and_nan_is_black():
    values = torch.tensor([-3.0, 7.0, float("nan")]).reshape(3, 1, 1)
    picture = draw_comparison([("a", values.expand(3, 300, 300))])
    assert (picture == (0, 255, 0)).all(2).sum() == 300 * 300


def test_captions_of_any_text_leave_the_picture_as_it_is():
    photo = torch.rand(3, 260, 300, generator=torch.Generator().manual_seed(0))
    plain = draw_comparison([("a", photo), ("b", photo)])
    for caption in ("", "\n\t\x1b[31m", "文字" * 50_000, "a" * 100_000, "\ud800\U0010ffff\u202e", "e\u0301" * 999):
        drawn = draw_comparison([(caption, photo), ("b", photo)])
        assert drawn.shape == plain.shape
        np.testing.assert_array_equal(drawn[-260:], plain[-260:])


def test_items_flow_like_words():
    item = text_item("word", 16)
    one_row, two_rows = flow_rows([item] * 4, 4 * item.width + 30, 10), flow_rows([item] * 4, 4 * item.width + 29, 10)
    assert (one_row.height, two_rows.height) == (item.height, 2 * item.height)
    assert flow_rows([item], 5, 10).size == (5, item.height)


def test_stacked_pictures_are_whole_and_on_paper():
    wide, high = np.full((2, 5, 3), 7, dtype=np.uint8), np.full((4, 3, 3), 9, dtype=np.uint8)
    stack = stack_pictures([wide, high])
    assert (stack.shape, stack.dtype) == ((2, 4, 5, 3), np.uint8)
    assert [(stack[0] == 7).all(2).sum(), (stack[1] == 9).all(2).sum()] == [10, 12]
    assert [(page == PAPER).all(2).sum() for page in stack] == [10, 8]
    np.testing.assert_array_equal(stack_pictures([high]), high[None])
