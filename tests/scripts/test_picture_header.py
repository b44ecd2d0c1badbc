"""What is seen of a picture without a decoder is what the decoder finds."""

from io import BytesIO

import pytest
from PIL import Image, ImageCms

from scripts.picture_header import find_fault, find_losses, is_cut_short, is_whole_png, measure


def encode(mode, kind, **options):
    file = BytesIO()
    Image.new(mode, (9, 7)).save(file, kind, **options)
    return file.getvalue()


def test_what_a_file_would_lose_is_seen():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("PNG", "JPEG", "WEBP"):
        assert find_losses(encode("RGB", kind)) == []
        assert find_losses(encode("RGB", kind, icc_profile=profile)) == ["colour profile"]
    assert find_losses(encode("RGBA", "PNG")) == find_losses(encode("RGBA", "WEBP")) == ["transparency"]
    assert find_losses(encode("I;16", "PNG")) == ["16 bits"]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_files_that_are_cut_short_are_seen(kind):
    whole = encode("RGB", kind)
    assert not is_cut_short(whole)
    assert is_cut_short(whole[: len(whole) // 2])
    for length in range(20):
        is_cut_short(whole[:length])
    assert not is_cut_short(b"something else")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_what_is_no_picture_is_not_worth_sending(kind):
    whole = encode("RGB", kind)
    assert find_fault(whole) == ""
    assert find_fault(b"") == "the file is empty; get it again"
    assert "cut short" in find_fault(whole[: len(whole) // 2])
    assert "is no PNG" in find_fault(b"no picture") == find_fault(b"RIFF\0\0\0\0WAVE")


def test_a_png_is_whole_with_every_byte_alone():
    whole = encode("RGB", "PNG")
    assert is_whole_png(whole)
    assert not any(is_whole_png(whole[:length]) for length in range(len(whole)))
    assert not any(is_whole_png(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]) for at in range(len(whole)))
    assert not is_whole_png(encode("RGB", "JPEG"))


def test_sizes_are_found_where_the_decoder_finds_them():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for options in ({}, {"progressive": True}, {"icc_profile": profile}, {"comment": b"\xff\xc0 in words"}):
        assert measure(encode("RGB", "JPEG", **options)) == (9, 7)
    assert measure(encode("RGB", "PNG")) == (9, 7)
    assert measure(encode("RGB", "BMP")) is None
    whole = encode("RGB", "JPEG")
    assert {measure(whole[:length]) for length in range(len(whole))} == {None, (9, 7)}
    assert measure(b"\xff\xd8\xff" + whole[2:]) == (9, 7)
