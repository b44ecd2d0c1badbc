"""Masks for pictures in bands: the files of the whole, read by rows, and one mask for one result."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.commands import banding, masks
from adadiffsr_core.commands.interrupts import STOPPED_CODE
from adadiffsr_core.sampling import run as run_module
from adadiffsr_core.streaming import layout as layout_module
from tests.core.commands.in_bands import WORDS, after, make_noise, paint, read_report, stop, words
from tests.core.commands.upscaled import make_photo

pytestmark = pytest.mark.usefixtures("small_pieces")


@pytest.mark.parametrize("scale", ["1", "2.5"])
@pytest.mark.parametrize("mask", ["same.png", "other.png", "lossy.jpg", "clear.tif", "kind.webp", "black.png"])
def test_files_of_a_mask_are_those_of_the_whole(run, mask, scale):
    make_noise("in.png", 150, 20)
    paint("same.png", (20, 150))
    paint("other.png", (77, 333))
    paint("lossy.jpg", (20, 150), quality=60)
    Image.fromarray(np.random.default_rng(0).choice([0, 90, 255], (9, 4, 2)).astype(np.uint8), "LA").save("clear.tif")
    paint("kind.webp", (20, 150), lossless=True)
    paint("black.png", (3, 3), black=1)
    for name, mode in (("whole", "never"), ("bands", "always")):
        more = ("--bands", mode, "--scale", scale, "--mask", mask)
        code, _, refused = run(*words(name, *more), steps=3)
        assert (code, refused) == (0, [])
    report = read_report("whole")
    assert report == read_report("bands")
    assert (report["nfe"] == 0) == (mask == "black.png") == (report["note"].startswith("the compute mask is black"))
    for name in ("", "-map", "-compare"):
        assert Path(f"whole{name}.png").read_bytes() == Path(f"bands{name}.png").read_bytes()


def test_tiles_that_a_mask_leaves_alone_are_told_of_as_in_the_whole(run, monkeypatch):
    for module in (layout_module, run_module):
        monkeypatch.setattr(module, "FULL_BATCHES", 2)
    make_noise("in.png", 1100, 12)
    paint("mask.png", (12, 1100))
    more = ("--mask", "mask.png", "--scale", "2", "--tile-batch", "1")
    for name, mode in (("whole", "never"), ("bands", "always")):
        code, lines, refused = run(*words(name, "--bands", mode, *more))
        assert (code, refused) == (0, [])
    report = read_report("bands")
    outcomes = [tile["outcome"] for tile in report["tiles"]]
    touched = len(outcomes) - outcomes.count("untouched")
    assert 0 < touched < len(outcomes)
    assert f"{touched} of {len(outcomes)} tiles" in lines[0]
    assert report == read_report("whole")
    for name in ("", "-map", "-compare"):
        assert Path(f"whole{name}.png").read_bytes() == Path(f"bands{name}.png").read_bytes()


@pytest.mark.parametrize("changes", [False, True])
def test_what_was_made_by_another_mask_is_not_gone_on_with(run, monkeypatch, tmp_path, changes):
    make_photo(Path("in.png"), side=60)
    paint("mask.png", (64, 60))
    more = ("--mask", "mask.png")
    with monkeypatch.context() as patch:
        after(patch, 5, stop)
        assert run(*WORDS, *more)[0] == STOPPED_CODE
    if changes:
        paint("mask.png", (64, 60), seed=1, black=0.2)
    code, lines, _ = run(*WORDS, *more)
    assert code == 0
    assert ("of it done before" in " ".join(lines)) != changes
    run("in.png", "-o", "whole.png", "--report", "whole.json", "--bands", "never", *more)
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert read_report("out") == read_report("whole")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("mode", ["always", "never"])
def test_a_wrong_mask_is_refused_before_any_work(run, tmp_path, mode):
    make_noise("in.png", 60, 64)
    make_noise("cut.png", 400, 64)
    os.truncate("cut.png", 60_000)
    Path("text.png").write_text("no picture")
    for mask, told in (
        ("none.png", "none.png cannot be read: No such file or directory"),
        ("text.png", "text.png is damaged, or is no PNG, JPEG, WebP, TIFF, GIF, AVIF or BMP picture"),
        ("cut.png", "cut.png is damaged or cut short; get a whole copy of it"),
    ):
        code, lines, refused = run("in.png", "-o", "out.png", "--bands", mode, "--mask", mask)
        assert (code, lines, refused) == (2, [], [told])
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: paint("mask.png", (64, 60), seed=1), "mask.png was changed while it was worked on; start again"),
        (lambda: Path("mask.png").unlink(), "mask.png is gone; put it back and start again"),
        (lambda: os.utime("mask.png", (0, 0)), None),  # touched
    ],
)
def test_no_result_is_made_by_two_masks(run, monkeypatch, act, told):
    make_noise("in.png", 60, 64)
    paint("mask.png", (64, 60))
    after(monkeypatch, 2, act)
    code, _, refused = run(*WORDS, "--mask", "mask.png")
    assert (code, len(refused)) == ((0, 0) if told is None else (2, 1))
    assert told is None or told in refused[0]
    assert Path("out.png").exists() == (told is None)


def test_a_mask_too_large_for_memory_is_read_by_rows(run, monkeypatch):
    make_noise("in.png", 60, 64)
    paint("mask.png", (64, 60))
    run("in.png", "-o", "whole.png", "--mask", "mask.png", "--bands", "never")
    monkeypatch.setattr(masks, "read_photo", None)
    monkeypatch.setattr("adadiffsr_core.photo.picture_rows._EACH", 8)
    assert run(*WORDS, "--mask", "mask.png")[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()


def test_one_mask_is_for_whole_pictures_and_for_those_in_bands(run, monkeypatch):
    make_noise("small.png", 20, 20)
    make_noise("large.png", 100, 20)
    paint("mask.png", (20, 20))
    run("small.png", "large.png", "-o", "whole/", "--mask", "mask.png", "--bands", "never")
    monkeypatch.setattr(banding.Banding, "is_for", lambda self, source, size: source[0] == 100)
    code, lines, refused = run("small.png", "large.png", "-o", "mixed/", "--mask", "mask.png")
    assert (code, refused) == (0, [])
    assert sum("in bands" in line for line in lines) == 1
    for name in ("small", "large"):
        assert Path(f"whole/{name}.png").read_bytes() == Path(f"mixed/{name}.png").read_bytes()
