"""Rows read, enlarged and written are those of the whole picture, in every kind of file."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from adadiffsr_core.photo.enlarging import Box, enlarge, enlarge_box, reduce, reduced_rows, source_rows
from adadiffsr_core.photo.reading import open_photo, read_photo
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.photo.value import Notes, Photo
from adadiffsr_core.photo.writing import write_photo

pyvips = pytest.importorskip("pyvips")


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize(("suffix", "bit_depth"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".jpg", 8)])
def test_a_picture_is_the_same_by_rows(tmp_path, suffix, bit_depth, is_grey):
    pixels = draw(1, 600, 37).repeat(3, 1, 1) if is_grey else draw(3, 600, 37)
    notes = Notes(dpi=(300.0, 150.0), texts=((b"tEXt", b"Comment\0made up"),))
    path = tmp_path / f"a{suffix}"
    write_photo(Photo(pixels=pixels, bit_depth=bit_depth, is_grey=is_grey, notes=notes), path)
    whole, rows = read_photo(path), open_photo(path).open_rows()
    assert torch.equal(torch.cat(list(rows.read()), dim=2)[0], whole.pixels)
    spool = Spool(tmp_path / "rows", rows.photo, (600, 37), path)
    for part in whole.pixels.split(70, dim=1):
        spool.add(part)
    assert spool.rows == 600
    spool.write(tmp_path / f"rows{suffix}", 95)
    write_photo(whole, tmp_path / f"whole{suffix}")
    assert (tmp_path / f"rows{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rows_are_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    levels = np.random.default_rng(0).integers(0, 256, (50, 30, 3), dtype=np.uint8)
    for name in ("a.jpg", "a.png", "a.tif"):
        Image.fromarray(levels).save(tmp_path / name, exif=exif)
        whole, rows = read_photo(tmp_path / name), open_photo(tmp_path / name).open_rows()
        assert (rows.height, rows.width) == whole.pixels.shape[1:]
        assert torch.equal(torch.cat(list(rows.read()), dim=2)[0], whole.pixels)


def test_what_is_no_single_picture_of_rows_is_not_read_by_them(tmp_path):
    frames = [Image.new("RGB", (8, 8), (9 * number, 0, 0)) for number in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    for name in ("a.gif", "a.webp", "a.bmp", "a.avif"):
        frames[0].save(tmp_path / name)
    for path in tmp_path.iterdir():
        assert open_photo(path).open_rows() is None


SIDES = st.integers(1, 40)


@settings(max_examples=80, deadline=None)
@given(SIDES, SIDES, st.integers(0, 90), st.integers(0, 90), st.randoms(use_true_random=False))
def test_a_part_is_enlarged_as_in_the_whole(height, width, more_rows, more_columns, random):
    image, size = draw(1, 3, height, width), (height + more_rows, width + more_columns)
    whole = enlarge(image, size)
    top, left = random.randrange(size[0]), random.randrange(size[1])
    box = Box(top, random.randint(top + 1, size[0]), left, random.randint(left + 1, size[1]))
    first, last = source_rows(height, size[0], box.top, box.bottom)
    part = enlarge_box(image[..., first:last, :], first, (height, width), size, box)
    assert torch.equal(part, whole[..., box.top : box.bottom, box.left : box.right])


@pytest.mark.parametrize("scale", [1, 1.3, 2, 3, 4, 7.1])
def test_enlarging_is_the_field_s_bicubic(scale):
    image = draw(1, 3, 45, 33)
    size = (round(45 * scale), round(33 * scale))
    expected = F.interpolate(image, size=size, mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(enlarge(image, size), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("before", "after"), [(64, 16), (45, 31), (17, 17), (9, 1), (100, 99)])
def test_rows_are_reduced_as_in_the_whole(before, after):
    image = draw(1, 3, before, 24)
    whole = reduce(image, (after, 8))
    for row in range(after):
        first, last = reduced_rows(before, after, row)
        assert torch.equal(reduce(image[..., first:last, :], (1, 8)), whole[..., row : row + 1, :])
