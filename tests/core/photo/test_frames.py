"""Frames, pages and notes: what goes in comes out, as other programs see it."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from adadiffsr_core.errors import ImageError
from adadiffsr_core.photo.comments import read_comments
from adadiffsr_core.photo.containers import Motion, is_lossless_webp, read_png_chunks, write_png
from adadiffsr_core.photo.exif import open_block, read_exif
from adadiffsr_core.photo.header import turn_upright
from adadiffsr_core.photo.reading import open_photo, read_photo
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import encode_photo, holds_all, write_photo, write_stills

FRAMES = [Image.fromarray(np.full((6, 8, 3), level, dtype=np.uint8)) for level in (10, 120, 250)]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="6" tiff:Orientation="6"/></x:xmpmeta>'


def make_exif():
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x8298] = "Maker", 6, "(c) Ann"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    exif.get_ifd(0x8825)[2] = (48.0, 2.5, 1.25)
    return exif


def levels_of(photo):
    return (photo.pixels * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.gif", {"duration": [100, 200, 300], "loop": 0}),
        ("a.png", {"duration": [100, 200, 300], "loop": 0}),
        ("a.webp", {"duration": [100, 200, 300], "loop": 0, "lossless": True}),
        ("a.avif", {"duration": [100, 200, 300], "quality": 100}),
        ("a.tif", {}),
    ],
)
def test_every_frame_and_page_is_read(tmp_path, name, options):
    FRAMES[0].save(tmp_path / name, save_all=True, append_images=FRAMES[1:], **options)
    file = open_photo(tmp_path / name)
    pages = list(file.read_pages())
    assert file.count == len(pages) == 3
    for page, frame in zip(pages, FRAMES, strict=True):
        assert np.abs(levels_of(page).astype(int) - np.array(frame)).max() <= (3 if name == "a.avif" else 0)
    assert (file.motion and file.motion.delays_ms) == ((100, 200, 300) if "duration" in options else None)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_an_animation_that_is_cut_short_is_refused_and_not_shortened(tmp_path, share):
    frames = [Image.effect_noise((40, 40), 90).convert("RGB") for _ in range(4)]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageError, match="damaged"):
            list(open_photo(tmp_path / name).read_pages())


def random_photos(count, *, bit_depth=8, is_grey=False, has_alpha=False):
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        levels = torch.randint(0, 2**bit_depth, (4, 5, 7), generator=generator).float() / (2**bit_depth - 1)
        pixels = levels[:1].repeat(3, 1, 1) if is_grey else levels[:3]
        yield Photo(pixels=pixels, alpha=levels[3:] if has_alpha else None, bit_depth=bit_depth, is_grey=is_grey)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("is_grey", [False, True])
def test_joined_frames_are_the_stills_to_every_reader(tmp_path, name, has_alpha, is_grey):
    photos = [replace(photo, is_lossless_webp=True) for photo in random_photos(3, is_grey=is_grey, has_alpha=has_alpha)]
    motion = Motion(delays_ms=(40, 1000, 70), plays=2)
    write_stills([encode_photo(photo, tmp_path / name) for photo in photos], tmp_path / name, motion, (5, 7))
    again = list(open_photo(tmp_path / name).read_pages())
    with Image.open(tmp_path / name) as seen_by_others:
        assert seen_by_others.n_frames == len(again) == 3
        for number, photo in enumerate(photos):
            seen_by_others.seek(number)
            assert np.array_equal(np.array(seen_by_others.convert("RGB")), levels_of(photo)) or has_alpha
            assert torch.equal(again[number].pixels, photo.pixels)
            assert not has_alpha or torch.equal(again[number].alpha, photo.alpha)
    if name != "a.tif":
        assert open_photo(tmp_path / name).motion == motion


def test_pages_may_differ_in_size_and_kind(tmp_path):
    pages = [*random_photos(1, bit_depth=16), *random_photos(1, is_grey=True), Photo(pixels=torch.ones(3, 30, 2))]
    write_stills([encode_photo(page, "a.tif") for page in pages], tmp_path / "a.tif")
    for page, again in zip(pages, open_photo(tmp_path / "a.tif").read_pages(), strict=True):
        assert torch.equal(page.pixels, again.pixels)
        assert (page.bit_depth, page.is_grey) == (again.bit_depth, again.is_grey)


def test_only_tiff_holds_pages_and_jpeg_holds_one(tmp_path):
    motion = Motion(delays_ms=(1, 1))
    held = {name: (holds_all(tmp_path / name, 2, motion), holds_all(tmp_path / name, 2, None)) for name in
            ("a.png", "a.webp", "a.tif", "a.jpg")}  # fmt: skip
    assert held == {"a.png": (True, False), "a.webp": (True, False), "a.tif": (True, True), "a.jpg": (False, False)}
    assert holds_all(tmp_path / "a.jpg", 1, None)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_notes_are_kept_from_every_format_to_every_other(tmp_path, name, suffix):
    options = {"exif": make_exif()} | ({} if name == "a.tif" else {"xmp": XMP})
    if name == "a.png":
        options = {"exif": make_exif()}
    FRAMES[1].save(tmp_path / name, dpi=(300, 240), **options)
    photo = read_photo(tmp_path / name)
    write_photo(photo, tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as seen_by_others:
        seen_by_others.load()
        exif = seen_by_others.getexif()
        assert (exif[0x010F], exif[0x0112], exif[0x8298]) == ("Maker", 1, "(c) Ann")
        if name != "a.tif":  # Pillow writes no more into one
            assert exif.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
            assert exif.get_ifd(0x8769)[0xA002] == 6
            assert exif.get_ifd(0x8825)[2] == (48.0, 2.5, 1.25)
        if suffix != ".webp" and name != "a.webp":
            assert np.allclose(seen_by_others.info["dpi"], (300, 240), atol=0.1)
    again = read_photo(tmp_path / f"out{suffix}").notes
    assert dict(again.blobs) == dict(photo.notes.blobs)
    assert name == "a.webp" or np.allclose(again.dpi, (300, 240), atol=0.1)
    assert name in ("a.png", "a.tif") or dict(photo.notes.blobs)["xmp-data"] == XMP.replace(b'on="6', b'on="1')


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_resolution_is_kept_without_exif(tmp_path, suffix):
    FRAMES[0].save(tmp_path / "a.tif", dpi=(300, 240))
    write_photo(read_photo(tmp_path / "a.tif"), tmp_path / f"out{suffix}")
    assert np.allclose(read_photo(tmp_path / f"out{suffix}").notes.dpi, (300, 240), atol=0.1)


def test_text_of_png_is_kept(tmp_path):
    text = PngInfo()
    text.add_text("Title", "Sky", zip=True)
    text.add_itxt("Author", "Zoë")
    FRAMES[0].save(tmp_path / "a.png", pnginfo=text)
    write_photo(read_photo(tmp_path / "a.png"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as seen_by_others:
        seen_by_others.load()
        assert (seen_by_others.text["Title"], seen_by_others.text["Author"]) == ("Sky", "Zoë")


def test_resolution_of_a_bitmap_is_kept(tmp_path):
    FRAMES[0].save(tmp_path / "a.bmp", dpi=(300, 200))
    write_photo(read_photo(tmp_path / "a.bmp"), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as seen_by_others:
        assert np.allclose(seen_by_others.info["dpi"], (300, 200), atol=0.1)


def test_notes_and_profile_of_an_animated_avif_are_kept(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = make_exif()
    del exif[0x0112]  # with it, Pillow's writer takes the process with it
    options = {"exif": exif, "xmp": XMP, "icc_profile": profile}
    frames = [frame.resize((64, 64)) for frame in FRAMES]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], **options)
    photo = read_photo(tmp_path / "a.avif")
    assert photo.icc_profile == profile
    assert photo.notes.exif.tags[0x010F][1].rstrip(b"\0") == b"Maker"
    assert dict(photo.notes.blobs)["xmp-data"] == XMP.replace(b'on="6', b'on="1')


@pytest.mark.parametrize("comment", [b"A sky", "Ein schöner Himmel".encode(), "é".encode("latin-1")])
@pytest.mark.parametrize("name", ["a.jpg", "a.gif"])
def test_comments_are_kept_where_there_is_a_place_for_them(tmp_path, name, comment):
    FRAMES[0].save(tmp_path / name, comment=comment)
    photo = read_photo(tmp_path / name)
    write_photo(photo, tmp_path / "b.png")
    for source in (photo, read_photo(tmp_path / "b.png")):
        write_photo(source, tmp_path / "b.jpg")
        with Image.open(tmp_path / "b.jpg") as seen_by_others:
            assert seen_by_others.info["comment"] == comment
    with Image.open(tmp_path / "b.png") as seen_by_others:
        seen_by_others.load()
        text = comment.decode("latin-1" if len(comment) == 1 else "utf-8")
        assert seen_by_others.text == {"Comment": text}


def test_damaged_comments_are_left_out():
    for name in ("JPEG", "GIF"):
        file = io.BytesIO()
        FRAMES[0].save(file, name, comment=b"a comment" * 40)
        whole = file.getvalue()
        assert read_comments(whole) == ((b"tEXt", b"Comment\0" + b"a comment" * 40),)
        for length in range(len(whole)):
            assert len(read_comments(whole[:length])) <= 1


@pytest.mark.parametrize("is_animated", [False, True])
def test_what_the_levels_of_a_png_mean_is_kept_even_where_notes_are_not(tmp_path, is_animated):
    chunks = {
        b"cICP": bytes((9, 16, 0, 1)),
        b"gAMA": struct.pack(">I", 100_000),
        b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
        b"sRGB": b"\1",
    }
    file = io.BytesIO()
    FRAMES[0].save(file, "PNG", save_all=is_animated, append_images=FRAMES[1:] if is_animated else [])
    header, *others = read_png_chunks(file.getvalue())
    (tmp_path / "a.png").write_bytes(write_png([header, *chunks.items(), *others]))
    photos = [replace(photo, notes=photo.notes.strip()) for photo in open_photo(tmp_path / "a.png").read_pages()]
    stills = [encode_photo(photo, tmp_path / "b.png") for photo in photos]
    write_stills(stills, tmp_path / "b.png", Motion(delays_ms=(40, 40, 40)) if is_animated else None, (6, 8))
    written = list(read_png_chunks((tmp_path / "b.png").read_bytes()))
    names = [name for name, _ in written]
    assert {name: data for name, data in written if name in chunks} == chunks
    assert max(map(names.index, chunks)) < names.index(b"IDAT")


@pytest.mark.parametrize(
    "said", ['tiff:Orientation = "6"', "tiff:Orientation='6'", 'tiff:Orientation="\n6"', "<tiff:Orientation> 6 <"]
)
def test_xmp_does_not_turn_what_is_upright(said):
    assert turn_upright(said.encode()) == said.replace("6", "1").encode()
    assert turn_upright(said.replace("6", "60").encode()) == said.replace("6", "60").encode()


@pytest.mark.parametrize("is_lossless", [False, True])
def test_webp_stays_as_lossless_as_it_was(tmp_path, is_lossless):
    buffer = io.BytesIO()
    FRAMES[0].save(buffer, "WEBP", lossless=is_lossless)
    (tmp_path / "a.webp").write_bytes(buffer.getvalue())
    write_photo(read_photo(tmp_path / "a.webp"), tmp_path / "b.webp")
    assert is_lossless_webp((tmp_path / "b.webp").read_bytes()) == is_lossless


def test_a_damaged_exif_block_is_dropped_and_never_raises():
    block = make_exif().tobytes()
    assert read_exif(open_block(block)).tags[0x010F][1].rstrip(b"\0") == b"Maker"
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(block)
        for place in generator.integers(6, len(block), 5):
            damaged[place] = generator.integers(256)
        read_exif(open_block(bytes(damaged[: generator.integers(1, len(damaged))])))


def test_kinds_that_libvips_reads_are_read(tmp_path):
    for name in ("a.jfif", "a.jpe", "a.mpo"):
        FRAMES[1].save(tmp_path / name, "JPEG")
    for name in ("a.bmp", "a.avif"):
        FRAMES[1].save(tmp_path / name)
    for path in tmp_path.iterdir():
        assert np.abs(levels_of(read_photo(path)).astype(int) - 120).max() <= 3
