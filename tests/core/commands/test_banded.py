"""Pictures in bands by the command line: the files of the whole, in little memory, and gone on with after a kill."""

import errno
import json
import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.commands import banding, cluster, masks, outputs, resources, timing, upscale
from adadiffsr_core.commands.interrupts import STOPPED_CODE
from adadiffsr_core.commands.kept import KeptBands
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.sampling import run as run_module
from adadiffsr_core.streaming import layout as layout_module
from tests.core.commands.upscaled import make_photo

EXTRA = ("--map", "{0}-map.png", "--compare", "{0}-compare.png", "--report", "{0}.json")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(layout_module, "_FINISHED_PX", 16)


def words(name, *more):
    return ["in.png", "-o", f"{name}.png", *(word.format(name) for word in EXTRA), *more]


def read_report(name):
    report = json.loads(Path(f"{name}.json").read_text())
    return {key: value for key, value in report.items() if key not in ("output", "seconds")}


def make_noise(path, height, width, seed=0, **more):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path, **more)


def after(monkeypatch, count, act):
    """Have something happen when so many pieces of the result were made."""
    made, original = [], Spool.add

    def add(self, pixels):
        original(self, pixels)
        made.append(pixels)
        if len(made) == count:
            act()

    monkeypatch.setattr(Spool, "add", add)


def stop():
    raise KeyboardInterrupt


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


def paint(path, size, seed=0, *, black=0.5, **more):
    """A mask of (width, height) px whose upper part is black, with large places of other levels below."""
    levels = np.random.default_rng(seed).choice([0, 1, 128, 255], (5, 4)).astype(np.uint8)
    levels[: round(5 * black)] = 0
    Image.fromarray(levels).resize(size, Image.Resampling.NEAREST).save(path, **more)


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


def test_a_run_that_was_stopped_goes_on(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=60)
    run(*words("whole", "--bands", "always"))
    made, original = [], Spool.add

    def stop(self, pixels):
        if len(made) == 5:
            raise KeyboardInterrupt
        original(self, pixels)
        made.append(pixels)

    monkeypatch.setattr(Spool, "add", stop)
    assert run(*words("bands", "--bands", "always"))[0] == STOPPED_CODE
    (left,) = tmp_path.glob(".bands.*.bands")
    with (left / "rows").open("ab") as file:
        file.write(b"half a row")
    count = len(made)
    monkeypatch.setattr(Spool, "add", lambda self, pixels: (original(self, pixels), made.append(pixels)))
    code, lines, _ = run(*words("bands", "--bands", "always"))
    assert code == 0
    assert "of it done before" in " ".join(lines)
    rows = sum(piece.shape[1] for piece in made)
    assert rows == 240  # none twice
    assert count == 5
    assert Path("whole.png").read_bytes() == Path("bands.png").read_bytes()
    assert read_report("whole") == read_report("bands")
    assert not left.exists()


def test_other_settings_make_all_anew(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=60)
    run("in.png", "-o", "other.png", "--bands", "always", "--seed", "1")

    def stop(self, path, quality):
        raise KeyboardInterrupt

    write = Spool.write
    monkeypatch.setattr(Spool, "write", stop)
    assert run("in.png", "-o", "out.png", "--bands", "always")[0] == STOPPED_CODE
    monkeypatch.setattr(Spool, "write", write)
    assert run("in.png", "-o", "out.png", "--bands", "always", "--seed", "1")[0] == 0
    assert Path("out.png").read_bytes() == Path("other.png").read_bytes()
    assert not list(tmp_path.glob(".*"))  # nor what the first settings left


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


WORDS = ("in.png", "-o", "out.png", "--bands", "always", "--report", "out.json")


def test_one_run_at_a_time_makes_a_picture(run, monkeypatch):
    make_photo(Path("in.png"), side=60)
    run("in.png", "-o", "alone.png", "--bands", "always")
    second = []
    told, complain = [], upscale.complain
    monkeypatch.setattr(upscale, "complain", lambda *rest: (told.append(str(rest[0])), complain(*rest)))
    after(monkeypatch, 2, lambda: second.append(run(*WORDS)[0]))
    assert run(*WORDS)[0] == 0
    assert second == [2]
    assert told == ["out.png is being made by another run; wait for it, or name another output"]
    assert Path("out.png").read_bytes() == Path("alone.png").read_bytes()


@pytest.mark.parametrize("left", [b'{"first": 0, "last": 1, "rep', None])
def test_a_report_that_was_lost_costs_its_bands_and_no_more(run, monkeypatch, tmp_path, left):
    make_photo(Path("in.png"), side=60)
    run("in.png", "-o", "whole.png", "--report", "whole.json", "--bands", "always")
    after(monkeypatch, 5, stop)
    assert run(*WORDS)[0] == STOPPED_CODE
    (log,) = tmp_path.glob(".out.png.*.bands/reports.jsonl")
    if left is None:
        log.unlink()
    else:
        log.write_bytes(log.read_bytes() + left)
    assert run(*WORDS)[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert read_report("out") == read_report("whole")


@pytest.mark.parametrize("more", [(), ("--rule", "bounded", "--budget", "2")])
def test_a_run_that_goes_on_samples_the_same_parts(run, monkeypatch, tmp_path, more):
    monkeypatch.setattr(layout_module, "FULL_BATCHES", 3)
    make_noise("in.png", 1100, 12)
    words = ("--scale", "2", "--tile-batch", "1", *more)
    run("in.png", "-o", "whole.png", "--report", "whole.json", "--bands", "always", *words)
    parts, keep = [], KeptBands.keep

    def note(self, part, report):
        parts.append(part)
        keep(self, part, report)

    monkeypatch.setattr(KeptBands, "keep", note)
    after(monkeypatch, 85, stop)  # where only the third row of tiles and those below are needed
    assert run(*WORDS, *words)[0] == STOPPED_CODE
    before = parts.copy()
    code, lines, _ = run(*WORDS, *words)
    assert code == 0
    assert "of it done before" in " ".join(lines)
    assert {first % 3 for first, _ in parts} == {0}
    assert parts[len(before)] in before
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert read_report("out") == read_report("whole")


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
    monkeypatch.setattr(upscale, "say", lambda text, *rest: told.append(text))
    for mode in ("never", "always"):
        assert run("in.jpg", "-o", f"{mode}.png", "--bands", mode)[0] == 0
    notes = [text for text in told if text.startswith("note: in.jpg is damaged in places")]
    assert len(notes) == 2
    assert Path("never.png").read_bytes() == Path("always.png").read_bytes()


def test_rows_stay_until_all_files_are_there(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)

    def fail(self):
        raise OSError(errno.EIO, "the disk is out of order")

    monkeypatch.setattr(outputs.Outputs, "_describe", fail)
    code, _, refused = run(*WORDS, "--overwrite")
    assert (code, "out of order" in refused[-1]) == (2, True)
    monkeypatch.undo()
    os.chdir(tmp_path)
    made = []
    monkeypatch.setattr(Spool, "add", lambda self, pixels: made.append(pixels))
    assert run(*WORDS)[0] == 0
    assert not made
    assert not list(tmp_path.glob(".*"))


def test_what_is_half_written_when_a_run_is_killed_goes_with_its_rows(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)
    monkeypatch.setattr(Spool, "write", lambda *rest: stop())
    assert run(*WORDS)[0] == STOPPED_CODE
    (left,) = tmp_path.glob(".out.png.*.bands")
    (left / ".0123456789abcdef.png").write_bytes(b"half of it")
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert run(*WORDS)[0] == 0
    assert not list(tmp_path.glob(".*"))


def test_what_was_finished_but_not_tidied_up_is_tidied_up_next_time(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)
    words = ("in.png", "-o", "out/", "--bands", "always")

    def clear(self):
        self.kept.close()
        stop()

    monkeypatch.setattr(outputs.Outputs, "clear", clear)
    assert run(*words)[0] == STOPPED_CODE
    assert list(tmp_path.glob("out/.*.bands"))
    assert run(*words)[:2] == (0, ["in.png: done before"])
    assert not list(tmp_path.glob("out/.*.bands"))


@pytest.mark.parametrize("name", ["\N{GRINNING FACE}" * 60, "x" * 251, "photo[1]", " a b", ".hidden"])
def test_any_name_that_a_file_can_have_will_do(run, name, tmp_path):
    make_photo(tmp_path / f"{name}.png", side=12)
    code, _, refused = run(tmp_path / f"{name}.png", "-o", "out/", "--bands", "always", "--scale", "1")
    assert (code, refused) == (0, [])
    assert {path.name for path in Path("out").iterdir()} == {f"{name}.png", ".adadiffsr.jsonl"}


def test_rows_lie_beside_the_file_that_a_link_leads_to(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)
    Path("far").mkdir()
    Path("out.png").symlink_to("far/real.png")
    after(monkeypatch, 1, stop)
    assert run(*WORDS)[0] == STOPPED_CODE
    assert len(list(tmp_path.glob("far/.real.png.*.bands"))) == 1
    assert run(*WORDS)[0] == 0
    assert Path("out.png").is_symlink()
    assert [path.name for path in Path("far").iterdir()] == ["real.png"]


@pytest.mark.parametrize("where", ["add", "write"])
def test_a_full_disk_is_named_and_what_is_done_is_kept(run, monkeypatch, tmp_path, where):
    make_photo(Path("in.png"), side=60)
    original = Spool.add

    def fill(self, *rest):
        if where == "add" and self.rows < 32:
            return original(self, *rest)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "_encode" if where == "write" else "add", fill)
    code, _, refused = run(*WORDS)
    assert code == 2
    assert "out.png cannot be written: its disk is full" in refused[-1]
    assert list(tmp_path.glob(".out.png.*.bands/rows"))


def test_rows_that_are_there_need_no_room(run, monkeypatch):
    make_photo(Path("in.png"), side=60)
    monkeypatch.setattr(Spool, "write", lambda *rest: stop())
    assert run(*WORDS)[0] == STOPPED_CODE
    rows = 3 * 240 * 256
    monkeypatch.setattr(resources, "free_bytes", lambda path: (1, rows))
    code, _, refused = run("in.png", "-o", "other.png", "--bands", "always")
    assert (code, "other.png needs about" in refused[0]) == (2, True)
    assert run(*WORDS)[0] == STOPPED_CODE


@pytest.mark.parametrize("more", [(), ("--mask", "mask.png")])
def test_a_piece_that_fails_leaves_nothing_to_the_next_picture(run, monkeypatch, more):
    """Pieces that are under way at a cluster's workers when a picture is given up."""
    monkeypatch.setattr(layout_module, "FULL_BATCHES", 1)
    for number, name in enumerate(("a", "b")):
        make_noise(f"{name}.png", 900, 12, seed=number)
    paint("mask.png", (12, 900))
    words = ("--bands", "always", "--scale", "2", "--tile-batch", "1", *more)
    run("b.png", "-o", "alone.png", *words)

    class Workers(cluster.Workers):
        count = 2

        def __init__(self):
            self._pool = self
            self.waiting, self.model = deque(), None

        def run(self, units):
            self.waiting.extend(units)
            while self.waiting:
                unit = self.waiting.popleft()
                yield unit, unit.work(self.model)

        def add(self, units):
            self.waiting.extend(units)

        def fill(self, filling):
            self.model = filling.bands.model
            super().fill(filling)

    original = Spool.add_levels

    def fail(self, levels):
        if self.target.name == "a.png":
            raise OSError(errno.EIO, "the disk is out of order")
        original(self, levels)

    monkeypatch.setattr(upscale, "fill_here", Workers().fill)
    monkeypatch.setattr(Spool, "add_levels", fail)
    code, _, refused = run("a.png", "b.png", "-o", "out/", *words)
    assert (code, len(refused)) == (2, 1)
    assert Path("out/b.png").read_bytes() == Path("alone.png").read_bytes()
