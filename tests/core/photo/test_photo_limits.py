"""Pictures that claim or hold too much: refused by their headers, soon and at little memory, by both readers."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

from adadiffsr_core.data import photo_files
from adadiffsr_core.data.photo_files import load_image
from adadiffsr_core.errors import ImageError
from adadiffsr_core.photo import admission
from adadiffsr_core.photo import limits as photo_limits
from adadiffsr_core.photo import reading as images
from adadiffsr_core.photo.reading import open_photo, read_photo
from tests.core.data.test_photo_files import png, png_chunk

SECONDS, MEGABYTES = 1.0, 300
ROOT = str(Path(__file__).resolve().parents[3])

# Time of the processor and memory of a process that has read one sound picture before.
CHILD = """
import sys, time
from pathlib import Path
from adadiffsr_core.errors import AdaDiffSRError
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.data.photo_files import load_image
from tests.fuzz.judge import peak_mb, restart_peak_mb
read = {"upscale": read_photo, "training": load_image}[sys.argv[1]]
read(Path(sys.argv[2]))
for path in sys.argv[3:]:
    memory, start = restart_peak_mb(), time.process_time()
    try:
        read(Path(path))
        said = "opened"
    except AdaDiffSRError as error:
        said = str(error)
    print(f"{time.process_time() - start:.3f}\\t{peak_mb() - memory:.1f}\\t{said}")
"""


def tiff(tags, *, length=0, pixels=b""):
    """A TIFF of one page whose pixels, if any, lie behind the directory."""
    entries = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 64, 279: max(1, len(pixels)), **tags}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4) + pixels


def many_channels(path, channels=250, side=200):
    image = pyvips.Image.black(side, side, bands=channels).copy(interpretation="multiband")
    image.tiffsave(str(path), compression="deflate")


def write_sparse(path, head, size):
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)


def deflate_bomb():
    """A PNG of 16,000 x 16,000 px that ends one line too early."""
    line = bytes(1 + 3 * 16_000)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(line) for _ in range(15_999)) + packer.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16_000, 16_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


PNG_HEAD = png(64, 64)[:33]
EVIL = {
    "zeros.png": lambda path: write_sparse(path, b"", 6 * 2**30),
    "head.png": lambda path: write_sparse(path, PNG_HEAD, 6 * 2**30),
    "chunk.png": lambda path: write_sparse(path, PNG_HEAD + struct.pack(">I", 2**31 - 1) + b"eXIf", 6 * 2**30),
    "idat.png": lambda path: write_sparse(path, PNG_HEAD + struct.pack(">I", 2**31 - 1) + b"IDAT", 6 * 2**30),
    "head.jpg": lambda path: write_sparse(path, b"\xff\xd8\xff\xe0\0\x10JFIF\0", 6 * 2**30),
    "head.webp": lambda path: write_sparse(path, b"RIFF\xf0\xff\xff\xffWEBPVP8 ", 6 * 2**30),
    "head.gif": lambda path: write_sparse(path, b"GIF89a\x10\0\x10\0\0\0\0", 6 * 2**30),
    "head.avif": lambda path: write_sparse(path, b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", 6 * 2**30),
    "head.bmp": lambda path: write_sparse(path, b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 9, 9, 1, 24), 6 * 2**30),
    "head.tif": lambda path: write_sparse(path, tiff({}), 6 * 2**30),
    "wide.tif": lambda path: write_sparse(path, tiff({256: 60_000, 257: 60_000}), 6 * 2**30),
    "channels.tif": many_channels,
    "samples.tif": lambda path: path.write_bytes(tiff({277: 60_000}, pixels=bytes(10 * 2**20))),
    "large channels.tif": lambda path: path.write_bytes(
        tiff({256: 16_000, 257: 16_000, 277: 250, 278: 1, 317: 1}, pixels=bytes(10 * 2**20))
    ),
    "bomb.png": lambda path: path.write_bytes(png(60_000, 60_000, bytes(1000))),
    "below.png": lambda path: path.write_bytes(png(16_000, 16_000, bytes(1000))),
    "text.png": lambda path: path.write_bytes(
        png(8, 8, bytes(100), png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**28), 9)))
    ),
    "profile.png": lambda path: path.write_bytes(
        png(8, 8, bytes(100), png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**28), 9)))
    ),
}


def measure(reader, sound, paths):
    """Seconds, megabytes and the sentence for each file, in a process of its own."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "VIPS_CONCURRENCY": "1",
        "PYTHONPATH": ROOT,  # not all of `sys.path`, since a host that is on it has `tests` too
    }
    words = [sys.executable, "-c", CHILD, reader, str(sound), *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [(float(seconds), float(megabytes), said) for seconds, megabytes, said in rows]


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A folder of them; bombs take longer to make than to refuse."""
    folder = tmp_path_factory.mktemp("evil")
    for name, write in EVIL.items():
        write(folder / name)
    return folder


@pytest.mark.parametrize("reader", ["upscale", "training"])
def test_whatever_is_refused_costs_a_second_and_300_mb_at_most(reader, evil, tmp_path):
    sound = tmp_path / "sound.png"
    Image.new("RGB", (32, 32)).save(sound)
    found = measure(reader, sound, [evil / name for name in EVIL])
    for name, (seconds, megabytes, said) in zip(EVIL, found, strict=True):
        assert said.startswith(str(evil / name)), (name, said)
        assert seconds < SECONDS, (name, seconds)
        assert megabytes < MEGABYTES, (name, megabytes)


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["upscale", "training"])
def test_a_picture_that_proves_too_short_at_its_end_has_taken_no_memory(reader, tmp_path):
    """Its decoding takes the time that it takes; what it claims is within the limits of `upscale`."""
    sound, bomb = tmp_path / "sound.png", tmp_path / "bomb.png"
    Image.new("RGB", (32, 32)).save(sound)
    bomb.write_bytes(deflate_bomb())
    ((_, megabytes, said),) = measure(reader, sound, [bomb])
    assert said.startswith(str(bomb))
    assert megabytes < MEGABYTES


def test_channels_are_counted_before_pixels_are_decoded(tmp_path, monkeypatch):
    many_channels(tmp_path / "many.tif", channels=7, side=16)
    monkeypatch.setattr(images.PhotoFile, "_to_photo", pytest.fail)
    with pytest.raises(ImageError, match="has 7 channels; save it as grey or RGB"):
        read_photo(tmp_path / "many.tif")


def test_every_page_is_checked_by_its_own_header(tmp_path):
    sound, odd = (pyvips.Image.black(16, 16, bands=bands).copy(interpretation="multiband") for bands in (3, 9))
    sound.copy(interpretation="srgb").tiffsave(str(tmp_path / "a.tif"))
    odd.tiffsave(str(tmp_path / "b.tif"))
    from adadiffsr_core.photo.containers import join_tiff

    (tmp_path / "both.tif").write_bytes(join_tiff([(tmp_path / name).read_bytes() for name in ("a.tif", "b.tif")]))
    pages = open_photo(tmp_path / "both.tif").read_pages()
    assert next(pages).pixels.shape == (3, 16, 16)
    with pytest.raises(ImageError, match="9 channels"):
        next(pages)


def test_sides_are_limited(tmp_path):
    path = tmp_path / "row.tif"
    Image.new("L", (2**18 + 1, 1)).save(path, compression="tiff_deflate")
    with pytest.raises(ImageError, match="262145 x 1 px; at most 262,144 px a side"):
        open_photo(path)
    Image.new("L", (2**18, 1)).save(path, compression="tiff_deflate")
    assert read_photo(path).pixels.shape == (3, 1, 2**18)


def test_parts_are_limited(tmp_path, monkeypatch):
    frames = [Image.new("RGB", (8, 8), (9 * number, 0, 0)) for number in range(4)]
    for name in ("a.png", "a.gif", "a.webp", "a.tif", "a.avif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        monkeypatch.setattr(photo_limits, "MAX_PARTS", 4)
        assert open_photo(tmp_path / name).count == 4
        monkeypatch.setattr(photo_limits, "MAX_PARTS", 3)
        with pytest.raises(ImageError, match="4 pages or frames"):
            open_photo(tmp_path / name)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "AVIF", "GIF"])
def test_large_files_are_read_as_small_ones_are(form, tmp_path, monkeypatch):
    levels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    path = tmp_path / "[page=3]é.bin"
    Image.fromarray(levels).save(path, form)
    before = read_photo(path).pixels
    monkeypatch.setattr(admission, "HELD_BYTES", 0)
    monkeypatch.setattr(images, "SURE_PIXELS", 0)
    assert bool((read_photo(path).pixels == before).all())
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ImageError, match="dam"):
        read_photo(path)


def test_plain_colours_of_any_size_are_not_taken_for_too_short(tmp_path):
    """The most that compression can make of them is within what is believed."""
    for number, (mode, colour) in enumerate((("1", 0), ("L", 255), ("RGB", (9, 9, 9)))):
        for form, options in (("PNG", {"compress_level": 9}), ("JPEG", {"quality": 1, "progressive": True})):
            path = tmp_path / f"{number}.{form.lower()}"
            Image.new(mode, (2500, 2000), colour).save(path, form, optimize=True, **options)
            assert read_photo(path).pixels.shape == (3, 2000, 2500)
            assert load_image(path).shape == (2000, 2500, 3)


def test_training_has_limits_of_its_own(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(path)
    for name, least, words in (("MAX_PIXELS", 200, "20 x 10 px"), ("MAX_BYTES", path.stat().st_size, "MiB")):
        with monkeypatch.context() as patch:
            patch.setattr(photo_files, name, least)
            assert load_image(path).shape == (10, 20, 3)
            patch.setattr(photo_files, name, least - 1)
            with pytest.raises(ImageError, match=words):
                load_image(path)
