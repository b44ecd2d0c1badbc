"""TIFF as files hold it: directories that lead astray, many pages, byte orders, inks and Lab."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.errors import ImageError
from adadiffsr_core.photo import tiff_tree
from adadiffsr_core.photo.exif import open_block, read_exif
from adadiffsr_core.photo.reading import open_photo, read_photo
from adadiffsr_core.photo.tiff_tree import Directory, read_directories
from adadiffsr_core.photo.value import Notes
from adadiffsr_core.photo.writing import encode_photo, write_stills
from tests.core.photo.test_frames import random_photos
from tests.core.photo.test_photo_limits import MEGABYTES, SECONDS, measure


def raw_tiff(pages, order="<", photometric=1, **tags):
    """A TIFF of these pages `[H,W,channels]` of uint8 or uint16, uncompressed; a page may bring tags of its own.

    Two numbers of a tag are short ones.
    """
    file = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    for number, (levels, own) in enumerate(pages):
        height, width, channels = levels.shape
        given = {262: photometric, **{int(tag[1:]): value for tag, value in tags.items()}, **own}
        bits = 8 * levels.itemsize
        values = {254: 0, 256: width, 257: height, 259: 1, 277: channels, 278: height, 279: levels.nbytes, **given}
        entries, start = {258: (3, channels, 0), 273: (4, 1, 0)}, len(file)
        entries |= {tag: (4, 1, value) for tag, value in values.items() if not isinstance(value, tuple)}
        pairs = {tag: struct.pack(f"{order}HH", *value) for tag, value in values.items() if isinstance(value, tuple)}
        entries |= {tag: (3, 2, struct.unpack(f"{order}I", pair)[0]) for tag, pair in pairs.items()}
        entries |= {tag: (5, 1, 0) for tag in (282, 283) if tag in values}
        end = start + 2 + 12 * len(entries) + 4
        depth = struct.pack(f"{order}{channels}H", *[bits] * channels)
        dots = struct.pack(f"{order}II", values.get(282, 0), 1)
        pixels = end + len(depth) + len(dots)
        entries[258] = (3, channels, end) if channels > 2 else (3, channels, bits * (1 if channels == 1 else 2**16 + 1))
        entries[273] = (4, 1, pixels)
        entries |= {tag: (5, 1, end + len(depth)) for tag in (282, 283) if tag in values}
        file += struct.pack(f"{order}H", len(entries))
        for tag, (kind, count, value) in sorted(entries.items()):
            held = struct.pack(f"{order}HH", value, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", value)
            file += struct.pack(f"{order}HHI", tag, kind, count) + held
        body = depth + dots + levels.astype(levels.dtype.newbyteorder(order)).tobytes()
        file += struct.pack(f"{order}I", 0 if number == len(pages) - 1 else end + len(body)) + body
    return file


@pytest.mark.parametrize("order", "<>")
def test_pages_come_out_of_any_byte_order_without_smaller_copies_and_with_their_own_resolution(tmp_path, order):
    page = np.arange(4, dtype=np.uint16).reshape(2, 2, 1) * 10_000
    pages = [(page[:1], {254: 1}), (page, {282: 300, 283: 300}), (page + 7, {}), (page[:, :1], {254: 4})]
    (tmp_path / "a.tif").write_bytes(raw_tiff(pages, order))
    first, second = open_photo(tmp_path / "a.tif").read_pages()
    assert np.allclose(first.notes.dpi, 300)
    assert second.notes.dpi is None
    for photo, added in ((first, 0), (second, 7)):
        assert np.array_equal(np.rint(photo.pixels[0].numpy() * 65535), page[..., 0] + added)
    (tmp_path / "a.tif").write_bytes(raw_tiff(pages[:2], order))  # one page is left, and it is not the first
    assert read_photo(tmp_path / "a.tif").pixels.shape == (3, 2, 2)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("bits", "opacity"), [(8, 100), (8, 200), (16, 25_700), (16, 51_400)])
@pytest.mark.parametrize(("photometric", "colours"), [(5, 4), (8, 3)])
def test_transparency_goes_past_inks_and_lab(tmp_path, order, bits, opacity, photometric, colours):
    kind, unit = (np.uint8, 1) if bits == 8 else (np.uint16, 256)
    page = np.full((3, 5, colours + 1), 40 * unit, dtype=kind)
    page[..., -1] = opacity
    (tmp_path / "a.tif").write_bytes(
        raw_tiff([(page, {})], order, photometric, _338=2, **({"_332": 1} if colours == 4 else {}))
    )
    photo = read_photo(tmp_path / "a.tif")
    assert torch.equal(photo.alpha, torch.full((1, 3, 5), opacity / (2**bits - 1)))
    (tmp_path / "a.tif").write_bytes(raw_tiff([(page[..., :-1], {})], order, photometric))
    opaque = read_photo(tmp_path / "a.tif")
    assert opaque.alpha is None
    assert torch.allclose(photo.pixels, opaque.pixels, atol=1 / 255)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("photometric", "colours"), [(1, 1), (2, 3), (5, 4), (8, 3)])
def test_a_channel_that_its_file_calls_no_opacity_is_no_part_of_the_picture(
    tmp_path, order, kind, photometric, colours
):
    inks = {"_332": 1} if colours == 4 else {}
    page = np.random.default_rng(0).integers(0, 256, (3, 5, colours + 1)).astype(kind)
    page[:, :2, -1] = 0  # as opacity it would hide two columns
    (tmp_path / "a.tif").write_bytes(raw_tiff([(page, {})], order, photometric, _338=0, **inks))
    (tmp_path / "b.tif").write_bytes(raw_tiff([(page[..., :-1], {})], order, photometric, **inks))
    photo, plain = (read_photo(tmp_path / name) for name in ("a.tif", "b.tif"))
    assert (photo.alpha, photo.left_out, plain.left_out) == (None, 1, 0)
    assert photo.is_grey == plain.is_grey == (colours == 1)
    assert torch.allclose(photo.pixels, plain.pixels, atol=1e-6 if colours != 4 and photometric != 8 else 1 / 255)
    rows = open_photo(tmp_path / "a.tif").open_rows()
    assert (rows.photo.alpha, rows.photo.left_out, rows.is_opaque()) == (None, 1, True)
    assert torch.equal(torch.cat(list(rows.read()), dim=2)[0], photo.pixels)
    assert torch.equal(rows.preview(5), photo.pixels)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("extras", "place"), [((0, 1), 4), ((0, 2), 4), ((1, 0), 3), ((2, 0), 3), (1, 3), (2, 3)])
def test_opacity_is_the_channel_that_its_file_calls_so(tmp_path, order, extras, place):
    is_pair = isinstance(extras, tuple)
    page = np.full((3, 5, 5 if is_pair else 4), 30, dtype=np.uint8)
    page[..., place] = 51
    (tmp_path / "a.tif").write_bytes(raw_tiff([(page, {})], order, photometric=2, _338=extras))
    colour = 30 / 51 if 1 in np.atleast_1d(extras) else 30 / 255  # associated: the colours were multiplied by it
    for photo in (read_photo(tmp_path / "a.tif"), *open_photo(tmp_path / "a.tif").open_rows().read_pieces()):
        assert torch.equal(photo.alpha, torch.full((1, 3, 5), 51 / 255))
        assert torch.allclose(photo.pixels, torch.full((3, 3, 5), colour), atol=1 / 255)
    assert read_photo(tmp_path / "a.tif").left_out == is_pair


def test_a_fourth_channel_of_which_nothing_is_said_is_opacity_as_other_programs_take_it(tmp_path):
    page = np.full((3, 5, 4), 40, dtype=np.uint8)
    (tmp_path / "a.tif").write_bytes(raw_tiff([(page, {})], photometric=2))
    with Image.open(tmp_path / "a.tif") as image:
        assert image.mode == "RGBA"
    assert torch.equal(read_photo(tmp_path / "a.tif").alpha, torch.full((1, 3, 5), 40 / 255))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
def test_lab_is_read(tmp_path, order, bits):
    kind, unit = (np.uint8, 1) if bits == 8 else (np.uint16, 256)
    lab = (128 * (257 if bits == 16 else 1), 40 * unit, (256 - 20) * unit)  # L* 50.2, a* 40, b* -20
    page = np.full((3, 5, 3), lab, dtype=kind)
    (tmp_path / "a.tif").write_bytes(raw_tiff([(page, {}), (page[:2], {})], order, photometric=8))
    first, second = open_photo(tmp_path / "a.tif").read_pages()
    assert (first.bit_depth, first.pixels.shape, second.pixels.shape) == (bits, (3, 3, 5), (3, 2, 5))
    # By the formulas of CIE 1976 and IEC 61966-2-1, white being D65.
    assert torch.allclose(first.pixels[:, 0, 0] * 255, torch.tensor([169.4, 92.6, 154.2]), atol=1)
    assert torch.allclose(first.pixels[:, 2, 4], second.pixels[:, 0, 0])


@pytest.mark.parametrize("photometric", [9, 10])
def test_other_kinds_of_lab_are_not_taken_for_rgb(tmp_path, photometric):
    (tmp_path / "a.tif").write_bytes(raw_tiff([(np.zeros((3, 5, 3), dtype=np.uint8), {})], photometric=photometric))
    with pytest.raises(ImageError, match="ICC's or fax machines' Lab"):
        read_photo(tmp_path / "a.tif")


def test_pages_beyond_a_damaged_link_are_missed(tmp_path):
    page = np.zeros((2, 2, 1), dtype=np.uint8)
    whole = raw_tiff([(page, {}), (page, {}), (page, {})])
    pages = list(read_directories(whole))
    link = pages[1].place[1]
    (tmp_path / "a.tif").write_bytes(whole[:link] + struct.pack("<I", 10**6) + whole[link + 4 :])
    with pytest.raises(ImageError, match="damaged"):
        list(open_photo(tmp_path / "a.tif").read_pages())


def point_at_itself(count, tags=b""):
    """An EXIF block whose one directory leads to itself, many times over."""
    entries = tags + struct.pack("<HHII", 0x8769, 4, 1, 8) * count
    return b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + bytes(4)


def test_directories_that_lead_in_circles_are_read_once_and_what_is_sound_is_kept():
    (page,) = read_directories(point_at_itself(30, struct.pack("<HHI4s", 0x010F, 2, 4, b"abc\0")))
    assert (page.tags, page.below) == ({0x010F: (2, b"abc\0")}, {})


def test_a_directory_below_that_is_damaged_costs_itself_and_nothing_else():
    maker = struct.pack("<HHI4s", 0x010F, 2, 4, b"abc\0")
    block = b"II*\0" + struct.pack("<IH", 8, 2) + maker + struct.pack("<HHII", 0x8769, 4, 1, 10**6) + bytes(4)
    assert read_exif(open_block(block)) == Directory(tags={0x010F: (2, b"abc\0")})


def test_tags_and_bytes_are_limited_for_a_whole_file():
    whole = struct.pack("<HHII", 0x010F, 2, 10**6, 8)  # of each of which a million bytes would be copied
    for entries in (whole * 4000, struct.pack("<HHII", 0x010F, 2, 1, 0) * 4097):
        file = b"II*\0" + struct.pack("<IH", 8, len(entries) // 12) + entries + bytes(10**6)
        with pytest.raises(ImageError, match="damaged"):
            list(read_directories(file))
    pages = [struct.pack("<HI", 0, 8 + 6 * number) for number in range(1, 300_000)]
    with pytest.raises(ImageError, match="damaged"):
        list(read_directories(b"II*\0" + struct.pack("<I", 8) + b"".join(pages) + bytes(6)))


def test_each_directory_of_many_pages_is_read_once_and_speaks_for_its_page(tmp_path, monkeypatch):
    stills = []
    for number, photo in enumerate(random_photos(1) for _ in range(12)):
        said = Directory(tags={0x010E: (2, f"page {number}".encode())})
        stills.append(encode_photo(replace(next(photo), notes=Notes(exif=said)), tmp_path / "a.tif"))
    write_stills(stills, tmp_path / "a.tif")
    reads, read = [], tiff_tree._Reader.read
    monkeypatch.setattr(tiff_tree._Reader, "read", lambda *args: reads.append(args) or read(*args))
    pages = list(open_photo(tmp_path / "a.tif").read_pages())
    assert [page.notes.exif.tags[0x010E][1].rstrip(b"\0") for page in pages] == [b"page %d" % n for n in range(12)]
    assert len(reads) == 12


@pytest.mark.parametrize("reader", ["upscale", "training"])
def test_exif_that_leads_in_circles_takes_no_time_in_any_file(reader, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "sound.png")
    files = [tmp_path / f"circles.{form}" for form in ("jpeg", "png", "webp", "avif")]
    for path in files:
        Image.new("RGB", (8, 8)).save(path, path.suffix[1:], exif=b"Exif\0\0" + point_at_itself(5400))
    found = measure(reader, tmp_path / "sound.png", files)
    for path, (seconds, megabytes, said) in zip(files, found, strict=True):
        assert (path, said, seconds < SECONDS, megabytes < MEGABYTES) == (path, "opened", True, True)
        assert read_photo(path).notes.exif is None
