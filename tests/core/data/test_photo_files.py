"""Files among photographs that are none, or no more: named in one line and left out, whatever they are."""

import ast
import io
import os
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from adadiffsr_core.data import photo_files
from adadiffsr_core.data.dataset import PairConfig, PairDataset, split_photos
from adadiffsr_core.data.origin import fingerprint_files
from adadiffsr_core.data.photo_bank import PhotoBank
from adadiffsr_core.data.photo_files import find_images, keep_sound, load_image
from adadiffsr_core.errors import AdaDiffSRError, ImageError
from adadiffsr_core.photo.pillow_files import quiet_pillow

ROOT = Path(__file__).parents[3]
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n%%EOF\n"


def encode(form, side=64, **options):
    levels = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, form, **options)
    return stream.getvalue()


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, pixels=b"", more=b""):
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = header + more + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


CUT_EXIF, NO_EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01", b"no TIFF structure"
PNG, JPEG = encode("PNG"), encode("JPEG")
DAMAGED = {
    "postscript.png": POSTSCRIPT,
    "text.jpg": b"no image",
    "empty.png": b"",
    "short.png": PNG[:-200],
    "short.jpg": JPEG[:-200],
    "short.webp": encode("WEBP")[:-200],
    "short.tif": encode("TIFF")[:200],
    "short.avif": encode("AVIF")[:-200],
    "flipped.png": PNG[:900] + b"\xff\0\xff\0" + PNG[904:],
    "header.png": png(0, 5),
    "bomb.png": png(60_000, 60_000, bytes(1000)),
    "large.png": png(12_000, 9_000, bytes(1000)),
    "few.png": png(600, 600, bytes(1000)),
    "chunk.png": PNG[:33] + struct.pack(">I", 2**31 - 1) + b"eXIf" + PNG[41:],
    "exif.png": PNG[:33] + png_chunk(b"eXIf", NO_EXIF) + PNG[33:],
    "deep.tif": b"II*\0\x08\0\0\0" + b"\xff" * 200,
    "line\nbreak\u202e.jpg": b"",
}


@pytest.fixture
def folder(tmp_path):
    """Sound photographs among all kinds of damaged ones."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, content in DAMAGED.items():
        (photos / name).write_bytes(content)
    for number in range(6):
        (photos / f"{number}.png").write_bytes(encode("PNG", 40 + number))
    return photos


def sound_ones(folder):
    return sorted(folder / f"{number}.png" for number in range(6))


def test_damaged_files_are_named_in_a_line_each_and_left_out(folder):
    told = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert keep_sound(find_images([folder]), told.append) == sound_ones(folder)
    assert len(told) == len(DAMAGED)
    for name, line in zip(sorted(DAMAGED), told, strict=True):
        assert line.startswith(str(folder / name).replace("\n", "\\n").replace("\u202e", "\\u202e"))
        assert line.endswith("it is left out")
        assert line.isprintable()
        assert len(line) < len(str(folder)) + 200


def test_a_photograph_is_read_in_spite_of_what_is_cut_off_of_its_exif(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG[:33] + png_chunk(b"eXIf", CUT_EXIF) + PNG[33:])
    (tmp_path / "b.png").write_bytes(PNG)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), load_image(tmp_path / "b.png"))


def test_no_file_is_handed_to_ghostscript(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", pytest.fail)
    (tmp_path / "photo.png").write_bytes(POSTSCRIPT)
    Image.init()  # every reader that Pillow has
    with pytest.raises(ImageError, match=r"photo\.png cannot be read"):
        load_image(tmp_path / "photo.png")


def test_whoever_opens_a_picture_says_as_what():
    files = [
        path
        for folder in ("adadiffsr_core", "nodes", "scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
    ]
    calls = [
        (path, [keyword.arg for keyword in node.keywords])
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
    ]
    assert calls
    assert [path for path, options in calls if "formats" not in options] == []


def test_what_is_drawn_is_as_if_the_damaged_had_never_been_there(folder):
    kept = keep_sound(find_images([folder]), len)
    assert fingerprint_files(kept) == fingerprint_files(sound_ones(folder))
    config = PairConfig(size_px=32)
    pairs, alone = (PairDataset(paths, config, 3, 4) for paths in (kept, sound_ones(folder)))
    for pair, other in zip(pairs, alone, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(pair, other, strict=True))
    assert len(PhotoBank.read(kept)) == 6


def test_verdicts_are_noted_until_a_file_changes(folder, tmp_path, monkeypatch):
    note, paths, told = tmp_path / "run" / "photographs.json", find_images([folder]), []
    kept = keep_sound(paths, told.append, note)
    with monkeypatch.context() as blind:
        blind.setattr(photo_files, "load_image", pytest.fail)
        again = []
        assert keep_sound(paths, again.append, note) == kept
        assert again == told
    (folder / "3.png").write_bytes(PNG[:-1000])
    assert keep_sound(paths, len, note) == [path for path in kept if path.name != "3.png"]
    for damage in (
        "",
        "[]",
        '{"photographs": 3}',
        note.read_text().replace('"left_out": {', '"left_out": {"99": "x",'),
    ):
        note.write_text(damage)
        assert len(keep_sound(paths, len, note)) == 5


def test_nothing_but_damage_is_refused_in_one_sentence(tmp_path):
    for name, content in DAMAGED.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=f"none of {len(DAMAGED)} photographs can be read") as refused:
        keep_sound(find_images([tmp_path]), len)
    assert str(refused.value).isprintable()
    with pytest.raises(ImageError):
        keep_sound([], len)


def test_who_is_asked_after_each_file_can_end_it(folder):
    class StoppedError(Exception):
        pass

    asked = []

    def stop():
        asked.append(1)
        if len(asked) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        keep_sound(find_images([folder]), pytest.fail, on_file=stop)
    assert len(asked) == 3


@pytest.mark.skipif(os.name != "posix", reason="names are bytes only there")
def test_names_that_are_no_utf8_work(tmp_path):
    folder = os.fsencode(tmp_path)
    try:
        for number in range(8):
            with open(folder + b"/\xff\xe9%d.png" % number, "wb") as file:  # noqa: PTH123
                file.write(encode("PNG", 40))
    except OSError:
        pytest.skip("this file system has no such names")
    (tmp_path / "SOURCES.tsv").write_bytes(b"crop\tphoto\n\xff\xe90.png\t\xfc\n\xff\xe91.png\t\xfc\n")
    paths = keep_sound(find_images([tmp_path]), pytest.fail, tmp_path / "note.json")
    split = split_photos(paths, 0.5)
    assert sorted(split.train + split.held_out) == paths
    assert (paths[0] in split.train) == (paths[1] in split.train)
    assert len(PhotoBank.open(paths, tmp_path / "bank.safetensors")) == 8
    (tmp_path / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    told = []
    assert keep_sound(find_images([tmp_path]), told.append) == paths
    assert told[0].encode()  # can be written out


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(AdaDiffSRError, match="no file"):
            load_image(path)


def test_warnings_are_held_back_in_threads_and_come_again():
    inside, ready = threading.Barrier(2, timeout=10), threading.Barrier(2, timeout=10)

    def stay():
        with quiet_pillow:
            inside.wait()
            ready.wait()

    thread = threading.Thread(target=stay)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        thread.start()
        inside.wait()
        with quiet_pillow:
            warnings.warn("one", stacklevel=1)
        warnings.warn("two", stacklevel=1)  # the other thread is still inside
        ready.wait()
        thread.join()
        warnings.warn("three", stacklevel=1)
    assert [str(warning.message) for warning in heard] == ["three"]
