"""Pictures in bands by the command line: the files of the whole, in little memory."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.commands import banding, doubts, resources, timing
from adadiffsr_core.photo.reading import read_photo
from tests.core.commands.in_bands import WORDS, after, make_noise, paint, read_report, words
from tests.core.commands.upscaled import make_photo

pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
def test_files_are_those_of_the_whole(run, tmp_path, kind):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6  # who made the camera; lies on its side
    make_noise("in.jpg", 30, 34, exif=exif, dpi=(300, 300))
    for name, mode in (("whole", "never"), ("bands", "always")):
        code, _, refused = run("in.jpg", "-o", f"{name}.{kind}", "--scale", "1", "--bands", mode)
        assert (code, refused) == (0, [])
    assert Path(f"whole.{kind}").read_bytes() == Path(f"bands.{kind}").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_map_comparison_and_report_are_those_of_the_whole(run):
    make_photo(Path("in.png"), side=30)
    run(*words("whole", "--bands", "never"))
    code, lines, _ = run(*words("bands", "--bands", "always"))
    assert code == 0
    assert "in bands: about" in " ".join(lines)
    assert read_report("whole") == read_report("bands")
    for kind in ("map", "compare"):
        assert Path(f"whole-{kind}.png").read_bytes() == Path(f"bands-{kind}.png").read_bytes()


@pytest.mark.parametrize(
    ("seconds", "words"), [((2400, 2401), "evaluations, 40 min"), ((60, 300), "evaluations, 60 s to 5 min")]
)
def test_a_time_that_is_known_is_said_once(run, monkeypatch, seconds, words):
    make_photo(Path("in.png"), side=30)
    monkeypatch.setattr(timing, "estimate_seconds", lambda bands, tiles: seconds)
    _, lines, _ = run("in.png", "-o", "out.png", "--scale", "1", "--bands", "always")
    assert any(line.endswith(words) for line in lines)


def test_what_memory_cannot_hold_is_made_in_bands(run, monkeypatch):
    make_photo(Path("in.png"), side=30)
    monkeypatch.setattr(resources, "available_bytes", lambda: resources.BASE_BYTES + 20_000)
    monkeypatch.setattr(banding, "available_bytes", lambda: 10**9)
    code, lines, refused = run("in.png", "-o", "out.png", "--scale", "1")
    assert (code, refused) == (0, [])
    assert "in bands" in " ".join(lines)


def test_what_memory_cannot_even_hold_a_band_of_is_refused(run, monkeypatch):
    make_photo(Path("in.png"), side=30)
    paint("mask.png", (1000, 1))
    for free, more in ((1000, ()), (10**7, ("--mask", "mask.png"))):
        for module in (resources, banding):
            monkeypatch.setattr(module, "available_bytes", lambda free=free: resources.BASE_BYTES + free)
        code, _, refused = run("in.png", "-o", "out.png", "--scale", "1", "--bands", "always", *more)
        assert (code, len(refused)) == (2, 1)
        assert "bands that are worked at 34 px of width need about" in refused[0]


@pytest.mark.parametrize(
    ("more", "out", "told"),
    [
        (("--check",), "out.png", "--check needs the whole picture"),
        ((), "out.webp", "write out.tif instead"),
        (("--merge", "every_step"), "out.png", "use merge final"),
        (("--colour", "adain"), "out.png", "use wavelet or none"),
        (("--scale", "0.5"), "out.png", "gets smaller"),
    ],
)
def test_what_cannot_be_made_in_bands_is_refused_in_a_sentence(run, more, out, told):
    make_photo(Path("in.png"))
    code, _, refused = run("in.png", "-o", out, "--bands", "always", *more)
    assert code == 2
    assert len(refused) == 1
    assert told in refused[0]
    assert not Path(out).exists()


def test_a_large_tiff_is_tiled_with_smaller_copies(run, monkeypatch):
    pyvips = pytest.importorskip("pyvips")
    monkeypatch.setattr("adadiffsr_core.photo.spool._TILED_BYTES", 1000)
    make_photo(Path("in.png"), side=80)
    assert run("in.png", "-o", "out.tif", "--bands", "always")[0] == 0
    run("in.png", "-o", "whole.tif", "--bands", "never")
    assert (read_photo("out.tif").pixels == read_photo("whole.tif").pixels).all()
    smaller = pyvips.Image.new_from_file("out.tif", subifd=0)
    assert smaller.width == read_photo("out.tif").pixels.shape[2] // 2


def test_banding_goes_by_memory_and_size(monkeypatch):
    scales, cpu = banding.Scales(), banding.torch.device("cpu")
    monkeypatch.setattr(resources, "available_bytes", lambda: 10**10)
    auto = banding.Banding("auto", scales, cpu)
    assert not auto.is_for((1000, 1000), (4000, 4000))
    assert auto.is_for((4000, 4000), (16000, 16000))  # 16 GB
    monkeypatch.setattr(resources, "available_bytes", lambda: None)
    assert not auto.is_for((4000, 4000), (16000, 16000))
    assert auto.is_for((5000, 5000), (20000, 20000))
    assert auto.is_for((8000, 8000), (16000, 16000))  # worked at 4
    assert not auto.is_for((100, 100), (20000, 20000))  # 200 times larger is refused, as it was


@pytest.mark.parametrize(
    ("act", "told", "is_kept"),
    [
        (lambda: make_noise("in.png", 60, 64, seed=1), "in.png was changed while it was worked on; start again", False),
        (lambda: os.truncate("in.png", 500), "in.png was changed while it was worked on; start again", False),
        (lambda: Path("in.png").unlink(), "in.png is gone; put it back and start again", True),
        (lambda: os.utime("in.png", (0, 0)), None, False),  # touched
    ],
)
def test_no_result_is_made_of_two_photographs(run, monkeypatch, tmp_path, act, told, is_kept):
    make_noise("in.png", 60, 64)
    after(monkeypatch, 2, act)
    code, _, refused = run(*WORDS)
    assert (code, len(refused)) == ((0, 0) if told is None else (2, 1))
    assert told is None or told in refused[0]
    assert bool(list(tmp_path.glob(".*"))) == is_kept
    assert Path("out.png").exists() == (told is None)


def test_of_a_tiff_that_begins_with_a_smaller_copy_the_picture_is_made(run):
    tifffile = pytest.importorskip("tifffile")
    levels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    with tifffile.TiffWriter("in.tif") as file:
        file.write(levels[::4, ::4].copy(), subfiletype=1, photometric="rgb")
        file.write(levels, photometric="rgb")
    for mode in ("never", "always"):
        assert run("in.tif", "-o", f"{mode}.png", "--bands", mode, "--scale", "1")[0] == 0
    assert Path("never.png").read_bytes() == Path("always.png").read_bytes()


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_damage_is_found_before_the_work(run, tmp_path, kind):
    path = Path(f"in.{kind}")
    make_noise(path, 200, 150)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, lines, refused = run(path, "-o", "out.png", "--bands", "always")
    assert (code, lines) == (2, [])
    assert refused == [f"{path} is damaged or cut short; get a whole copy of it"]
    assert not list(tmp_path.glob(".*"))


def test_of_a_jpeg_that_is_damaged_in_places_it_is_said(run, monkeypatch):
    make_noise("in.jpg", 200, 150)
    content = bytearray(Path("in.jpg").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3] = b"\xff\x01\xff"
    Path("in.jpg").write_bytes(content)
    told = []
    monkeypatch.setattr(doubts, "say", lambda text, *rest: told.append(text))
    for mode in ("never", "always"):
        assert run("in.jpg", "-o", f"{mode}.png", "--bands", mode)[0] == 0
    notes = [text for text in told if text.startswith("note: in.jpg is damaged in places")]
    assert len(notes) == 2
    assert Path("never.png").read_bytes() == Path("always.png").read_bytes()


@pytest.mark.parametrize("name", ["\N{GRINNING FACE}" * 60, "x" * 251, "photo[1]", " a b", ".hidden"])
def test_any_name_that_a_file_can_have_will_do(run, name, tmp_path):
    make_photo(tmp_path / f"{name}.png", side=12)
    code, _, refused = run(tmp_path / f"{name}.png", "-o", "out/", "--bands", "always", "--scale", "1")
    assert (code, refused) == (0, [])
    assert {path.name for path in Path("out").iterdir()} == {f"{name}.png", ".adadiffsr.jsonl"}
