"""Files that cannot be read or written: one sentence each, and what was there before stays."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.errors import ConfigError, DiskError, ImageError, MissingExtraError, ShapeError
from adadiffsr_core.photo import limits as photo_limits
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import write_photo
from tests.core.photo.levels import assert_same, encode, make_photo


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_that_claims(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
BAD_INPUTS = {
    "empty": (b"", "is empty"),
    "text": (b"not a picture at all", "no PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP"),
    "svg": (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
        "no PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP",
    ),
    "tga": (encode(NOISE, "TGA"), "no PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP"),
    "zero size": (png_that_claims(0, 5), "damaged"),
    "bomb": (png_that_claims(60000, 60000), "damaged or cut short"),
    "fewer pixels than claimed": (png_that_claims(600, 600), "damaged or cut short"),
    "float": (encode(NOISE.convert("F"), "TIFF"), "float values; save it with 8 or 16 bits"),
    **{
        f"{file_format} cut at {share}": (
            encode(NOISE, file_format)[: int(share * len(encode(NOISE, file_format)))],
            "dam",
        )
        for file_format in ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "AVIF")
        for share in (0.02, 0.3, 0.9, 0.98)
    },
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_file_is_refused_in_one_sentence(tmp_path, name, capfd):
    content, reason = BAD_INPUTS[name]
    (tmp_path / "in.png").write_bytes(content)
    with pytest.raises(ImageError, match=reason) as raised:
        read_photo(tmp_path / "in.png")
    assert_one_sentence(raised.value, tmp_path / "in.png")
    assert capfd.readouterr() == ("", "")


def assert_one_sentence(error, path):
    assert str(error).startswith(str(path))
    assert "\n" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None


def test_missing_file_and_folder_are_refused(tmp_path):
    for path, reason in ((tmp_path / "none.png", "No such file"), (tmp_path, "is not a file")):
        with pytest.raises(ImageError, match=reason) as raised:
            read_photo(path)
        assert_one_sentence(raised.value, path)


def test_unwritable_path_is_refused(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, reason in (
        ("photo.bmp", "end it in .png, .jpg, .jpeg, .webp, .tif, .tiff"),
        ("photo", "end it in .png"),
        ("none/photo.png", "does not exist; create it first"),
        ("folder.png", "is a folder"),
    ):
        with pytest.raises(ImageError, match=reason) as raised:
            write_photo(make_photo(), tmp_path / name)
        assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_size_beyond_the_format_is_refused(tmp_path):
    wide = Photo(pixels=torch.zeros(3, 1, 16384))
    with pytest.raises(ImageError, match=r"cannot hold 16384 x 1 px; write wide\.png"):
        write_photo(wide, tmp_path / "wide.webp")
    write_photo(wide, tmp_path / "wide.png")
    assert_same(wide, read_photo(tmp_path / "wide.png"))


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("call", ["write_bytes", "replace"])
def test_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch, failure, call):
    old = make_photo(seed=1)
    write_photo(old, tmp_path / "photo.png")
    whole = getattr(Path, call)

    def fail_half_way(self, argument):
        if call == "write_bytes":
            whole(self, argument[: len(argument) // 2])
        raise failure

    monkeypatch.setattr(Path, call, fail_half_way)
    expected = DiskError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as raised:
        write_photo(make_photo(seed=2), tmp_path / "photo.png")
    if expected is DiskError:
        assert "photo.png cannot be written: its disk is full" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]
    assert_same(old, read_photo(tmp_path / "photo.png"))


def test_limit_is_on_pixels_not_on_sides(tmp_path, monkeypatch):
    write_photo(make_photo(size=(10, 20)), tmp_path / "photo.png")
    monkeypatch.setattr(photo_limits, "MAX_PIXELS", 200)
    assert read_photo(tmp_path / "photo.png").pixels.shape == (3, 10, 20)
    monkeypatch.setattr(photo_limits, "MAX_PIXELS", 199)
    with pytest.raises(ImageError, match="20 x 10 px"):
        read_photo(tmp_path / "photo.png")


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4), (3, 0, 4), (4, 4, 3)])
def test_photo_refuses_other_shapes(shape):
    with pytest.raises(ShapeError, match=r"\[3, H, W\]"):
        Photo(pixels=torch.zeros(shape))


def test_photo_refuses_alpha_of_another_size_and_other_depths():
    with pytest.raises(ShapeError, match="alpha"):
        Photo(pixels=torch.zeros(3, 4, 4), alpha=torch.zeros(1, 4, 5))
    with pytest.raises(ConfigError, match="8 or 16"):
        Photo(pixels=torch.zeros(3, 4, 4), bit_depth=12)


def test_without_libvips_reading_and_writing_say_what_to_install(tmp_path, monkeypatch):
    write_photo(Photo(pixels=torch.zeros(3, 4, 4)), tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        read_photo(tmp_path / "a.png")
    with pytest.raises(MissingExtraError, match="pip install"):
        write_photo(Photo(pixels=torch.zeros(3, 4, 4)), tmp_path / "a.png")
