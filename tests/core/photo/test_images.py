"""Photographs are read as they are meant to be seen, and written as they were read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.errors import ConfigError, ImageError
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import write_photo
from tests.core.photo.levels import SRGB, assert_same, encode, make_photo, smooth_levels

PHOTOS = Path(__file__).resolve().parents[3] / "photos"
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF"])
@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("size", [(23, 37), (1, 1), (1, 40)])
def test_lossless_formats_give_back_every_level(tmp_path, suffix, bit_depth, is_grey, has_alpha, size):
    photo = make_photo(bit_depth, is_grey=is_grey, has_alpha=has_alpha, size=size)
    write_photo(photo, tmp_path / f"photo{suffix}")
    again = read_photo(tmp_path / f"photo{suffix}")
    assert_same(photo, again)
    assert again.pixels.dtype == torch.float32
    assert again.path == tmp_path / f"photo{suffix}"


def test_every_16_bit_level_survives(tmp_path):
    levels = torch.arange(2**16).reshape(1, 256, 256).repeat(3, 1, 1)
    photo = Photo(pixels=levels.float() / 65535, bit_depth=16)
    write_photo(photo, tmp_path / "ramp.png")
    assert torch.equal((read_photo(tmp_path / "ramp.png").pixels.double() * 65535).round().long(), levels)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
@pytest.mark.parametrize("is_grey", [False, True])
def test_lossy_formats_stay_close_and_have_8_bits(tmp_path, suffix, is_grey):
    pixels = torch.from_numpy(smooth_levels()).permute(2, 0, 1) / 255
    pixels = pixels[:1].repeat(3, 1, 1) if is_grey else pixels
    write_photo(Photo(pixels=pixels, bit_depth=16, is_grey=is_grey), tmp_path / f"photo{suffix}")
    again = read_photo(tmp_path / f"photo{suffix}")
    assert again.bit_depth == 8
    assert again.is_grey == (is_grey and suffix != ".webp")
    assert (again.pixels - pixels).abs().mean() < 0.01


def test_quality_reaches_the_encoder(tmp_path):
    photo = make_photo()
    for suffix in (".jpg", ".webp"):
        write_photo(photo, tmp_path / f"low{suffix}", quality=20)
        write_photo(photo, tmp_path / f"high{suffix}", quality=98)
        assert 1.5 * (tmp_path / f"low{suffix}").stat().st_size < (tmp_path / f"high{suffix}").stat().st_size
    for quality in (0, 101):
        with pytest.raises(ConfigError, match="1 to 100"):
            write_photo(photo, tmp_path / "photo.jpg", quality=quality)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_and_not_written_again(tmp_path, orientation, file_format):
    upright = smooth_levels()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 98} if file_format == "JPEG" else {}
    image = Image.fromarray(np.ascontiguousarray(stored))
    (tmp_path / "in").write_bytes(encode(image, file_format, exif=exif, **options))
    photo = read_photo(tmp_path / "in")
    assert photo.pixels.shape == (3, 48, 64)
    difference = (photo.pixels * 255 - torch.from_numpy(upright).permute(2, 0, 1)).abs()
    assert difference.mean() < (2.5 if file_format == "JPEG" else 1e-4)
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        write_photo(photo, tmp_path / f"out{suffix}")
        with Image.open(tmp_path / f"out{suffix}") as written:
            assert written.getexif().get(0x0112, 1) == 1
            assert written.size == (64, 48)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("bit_depth", [8, 16])
def test_profile_survives_byte_for_byte(tmp_path, suffix, bit_depth):
    write_photo(make_photo(bit_depth, icc_profile=SRGB), tmp_path / f"one{suffix}")
    photo = read_photo(tmp_path / f"one{suffix}")
    assert photo.icc_profile == SRGB
    with Image.open(tmp_path / f"one{suffix}") as seen_by_others:
        assert seen_by_others.info["icc_profile"] == SRGB
    write_photo(replace(photo, icc_profile=None), tmp_path / f"two{suffix}")
    assert read_photo(tmp_path / f"two{suffix}").icc_profile is None


@pytest.mark.parametrize(
    ("is_grey", "suffix", "profile", "is_kept"),
    [
        (True, ".png", GREY, True),
        (True, ".jpg", GREY, True),
        (True, ".tif", GREY, True),
        (True, ".png", SRGB, False),
        (False, ".png", GREY, False),
        (True, ".webp", GREY, False),
    ],
)
def test_profile_is_embedded_only_where_it_describes_the_pixels(tmp_path, is_grey, suffix, profile, is_kept):
    write_photo(make_photo(is_grey=is_grey, icc_profile=profile), tmp_path / f"photo{suffix}")
    assert read_photo(tmp_path / f"photo{suffix}").icc_profile == (profile if is_kept else None)


def test_other_pixel_kinds_are_converted(tmp_path):
    rgb = Image.fromarray(smooth_levels())
    translucent = rgb.convert("RGBA")
    translucent.putalpha(100)
    path = tmp_path / "in"

    def read(image, file_format, **options):
        path.write_bytes(encode(image, file_format, **options))
        return read_photo(path)

    expected = torch.from_numpy(smooth_levels()).permute(2, 0, 1) / 255
    palette = rgb.quantize(32)
    for file_format in ("PNG", "TIFF", "GIF"):
        quantised = torch.from_numpy(np.array(palette.convert("RGB"))).permute(2, 0, 1) / 255
        assert torch.equal(read(palette, file_format).pixels, quantised)
    bilevel = rgb.convert("1")
    for file_format, options in (("PNG", {}), ("TIFF", {"compression": "group4"})):
        photo = read(bilevel, file_format, **options)
        assert photo.is_grey
        assert torch.equal(photo.pixels[0], torch.from_numpy(np.array(bilevel)).float())
    for file_format in ("PNG", "TIFF"):
        photo = read(translucent.convert("LA"), file_format)
        assert photo.is_grey
        assert photo.alpha is not None
        assert torch.equal(photo.alpha, torch.full((1, 48, 64), 100 / 255))
    for file_format in ("JPEG", "TIFF"):
        photo = read(rgb.convert("CMYK"), file_format)
        assert not photo.is_grey
        assert photo.icc_profile is None
        assert (photo.pixels - expected).abs().mean() < 0.12  # a printer's green is not a screen's


def test_first_frame_or_page_is_read(tmp_path):
    first, second = Image.fromarray(smooth_levels()), Image.new("RGB", (64, 48), (255, 0, 255))
    expected = torch.from_numpy(smooth_levels()).permute(2, 0, 1) / 255
    for file_format in ("TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if file_format == "WEBP" else {}
        (tmp_path / "in").write_bytes(encode(first, file_format, save_all=True, append_images=[second], **options))
        assert torch.equal(read_photo(tmp_path / "in").pixels, expected)


def test_file_name_is_never_read_as_options(tmp_path):
    photo = make_photo()
    write_photo(photo, tmp_path / "photo[page=7].png")
    assert_same(photo, read_photo(tmp_path / "photo[page=7].png"))


def test_opaque_alpha_goes_into_a_jpeg_and_transparency_does_not(tmp_path):
    opaque = replace(make_photo(), alpha=torch.ones(1, 23, 37))
    write_photo(opaque, tmp_path / "photo.jpg")
    assert read_photo(tmp_path / "photo.jpg").alpha is None
    with pytest.raises(ImageError, match=r"transparency; write glass\.png"):
        write_photo(make_photo(has_alpha=True), tmp_path / "glass.jpg")
    write_photo(make_photo(has_alpha=True), tmp_path / "glass.webp")
    assert read_photo(tmp_path / "glass.webp").alpha is not None


def test_values_out_of_range_are_clamped_and_nan_is_refused(tmp_path):
    pixels = torch.tensor([-0.5, 0.5, 1.5]).reshape(1, 1, 3).repeat(3, 1, 1)
    write_photo(Photo(pixels=pixels), tmp_path / "photo.png")
    assert torch.equal(read_photo(tmp_path / "photo.png").pixels[0, 0] * 255, torch.tensor([0.0, 128.0, 255.0]))
    with pytest.raises(ImageError, match="not numbers"):
        write_photo(Photo(pixels=pixels * float("nan")), tmp_path / "photo.png")


def test_a_jpeg_that_is_damaged_within_is_read_and_says_so(tmp_path):
    with Image.open(PHOTOS / "cat.jpg") as cat:
        picture = cat.convert("RGB").resize((600, 400))
    for options in ({}, {"progressive": True}):
        whole = encode(picture, "JPEG", quality=90, **options)
        middle = len(whole) // 2
        for name, content in (("whole", whole), ("holed", whole[:middle] + bytes(400) + whole[middle + 400 :])):
            (tmp_path / name).write_bytes(content)
            photo = read_photo(tmp_path / name)
            assert (photo.pixels.shape, photo.has_damage) == ((3, 400, 600), name == "holed")


def test_written_file_has_the_permissions_of_any_new_file(tmp_path):
    write_photo(make_photo(), tmp_path / "photo.png")
    (tmp_path / "plain").touch()
    assert (tmp_path / "photo.png").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reading_again_sees_a_replaced_file(tmp_path):
    for seed in range(3):
        write_photo(make_photo(seed=seed), tmp_path / "photo.png")
        assert_same(make_photo(seed=seed), read_photo(tmp_path / "photo.png"))
