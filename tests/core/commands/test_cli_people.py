"""The command line in people's hands: whole pictures, names of their own, and what cannot be is refused beforehand."""

import json
import os
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.commands import making, outputs, resources
from adadiffsr_core.commands.drafts import draft_photo
from adadiffsr_core.commands.naming import Source
from adadiffsr_core.errors import DiskError
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.pipeline import upscale
from tests.core.commands.upscaled import DONE, files_in, make_photo

Usage = namedtuple("Usage", "total used free")
WORDS = ("--scale", "1")


@pytest.fixture
def untouched(monkeypatch):
    """The run fails if anything is evaluated."""

    def refuse(*args, **more):
        raise AssertionError("work was begun")

    monkeypatch.setattr(making, "upscale", refuse)


def make_frames(path, count=3, **options):
    frames = [Image.fromarray(np.full((8, 12, 3), 40 * (n + 1), dtype=np.uint8)) for n in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def frames_of(path):
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1)


@pytest.mark.parametrize(
    ("name", "out"), [("a.gif", "a.png"), ("a.png", "a.png"), ("a.webp", "a.webp"), ("a.tif", "a.tif")]
)
def test_all_frames_and_pages_are_made_with_their_maps_and_reports(run, tmp_path, name, out):
    (tmp_path / "in").mkdir()
    make_frames(tmp_path / "in" / name, **({} if name == "a.tif" else {"duration": [100, 200, 300]}))
    words = ("--map", "maps", "--compare", "maps", "--report", "out", "--uniform", "1")
    code, lines, refused = run("in", "-o", "out", *WORDS, *words)
    assert (code, refused) == (0, [])
    suffix = ".tif" if name == "a.tif" else ".png"
    for path in (f"out/{out}", f"maps/a-map{suffix}", f"maps/a-compare{suffix}"):
        assert frames_of(path) == 3
    report = json.loads(Path("out/a.json").read_text())
    assert report["nfe"] == report["full_nfe"] == 6 == int(DONE.match(lines[0]).group(2))
    assert [page["nfe"] for page in report["pages"]] == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "out", "better"), [("a.gif", "o.jpg", ".png, .webp or .tif"), ("a.tif", "o.png", ".tif")]
)
def test_frames_that_cannot_be_held_are_told_of(run, tmp_path, name, out, better):
    make_frames(tmp_path / name)
    if name == "a.gif":  # libvips reads GIF with transparency, of which there is none
        assert read_photo(tmp_path / name).is_opaque
    code, _, said = run(name, "-o", out, *WORDS)
    assert (code, frames_of(out)) == (0, 1)
    (sentence,) = said
    assert "has 3 " in sentence
    assert f"only the first is in there; end the name in {better} for all" in sentence


def test_notes_are_kept_unless_stripped(run, tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "Ann"
    Image.new("RGB", (8, 8), (9, 99, 199)).save(tmp_path / "a.jpg", dpi=(300, 300), exif=exif)
    assert run("a.jpg", "-o", "kept.jpg", *WORDS)[0] == run("a.jpg", "-o", "bare.jpg", "--strip", *WORDS)[0] == 0
    seen = {}
    for name in ("kept", "bare"):
        with Image.open(f"{name}.jpg") as image:
            seen[name] = (dict(image.getexif()).get(0x013B), image.info["dpi"])
    assert seen == {"kept": ("Ann", (300, 300)), "bare": (None, (72, 72))}


@pytest.mark.parametrize(
    ("names", "words", "expected"),
    [
        (["a.gif", "a.png", "a.bmp"], [], ["a.bmp.png", "a.gif.png", "a.png"]),
        (["a.gif", "a.png", "a.gif.png"], [], ["a.gif-2.png", "a.gif.png", "a.png"]),
        (["a.gif", "a.bmp"], [], ["a.bmp.png", "a.gif.png"]),
        (["a.png", "a.jpg"], ["--map", "out"], ["a.jpg", "a.jpg-map.png", "a.png", "a.png-map.png"]),
        (["a.png", "a.jpg"], ["--report", "out"], ["a.jpg", "a.jpg.json", "a.png", "a.png.json"]),
        (["a.png", "a-map.png"], ["--map", "out"], ["a-map-map.png", "a-map.png", "a.png", "a.png-map.png"]),
    ],
)
def test_every_photograph_gets_names_of_its_own(run, tmp_path, names, words, expected):
    for seed, name in enumerate(names):
        make_photo(tmp_path / "in" / name, seed=seed)
    code, lines, refused = run("in", "-o", "out", *WORDS, *words)
    assert (code, len(lines), refused) == (0, len(names), [])
    assert files_in(tmp_path / "out") == expected


def test_sub_folders_of_a_pattern_are_kept(run, tmp_path):
    for name in ("n/1/x.png", "n/2/deep/x.png", "n/y.png"):
        make_photo(tmp_path / name)
    assert run("n/**/*.png", "-o", "out", "--map", "maps", *WORDS)[0] == 0
    assert files_in(tmp_path / "out") == ["1/x.png", "2/deep/x.png", "y.png"]
    assert files_in(tmp_path / "maps") == ["1/x-map.png", "2/deep/x-map.png", "y-map.png"]


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("i?/x/../../../keep.png", "keep.png"),
        ("i?/x/../up.png", "in/up.png"),
        ("i?/../..oddly/b.png", "..oddly/b.png"),
        ("../w/i?/x/a.png", "in/x/a.png"),
    ],
)
def test_a_pattern_never_leads_out_of_the_folder(run, tmp_path, monkeypatch, pattern, kept):
    for number, name in enumerate(("keep.png", "w/in/x/a.png", "w/in/up.png", "w/..oddly/b.png")):
        make_photo(tmp_path / name, seed=number)
    (tmp_path / "w" / "keep.png").write_text("precious")
    monkeypatch.chdir(tmp_path / "w")
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    assert run(pattern, "-o", "out", *WORDS)[0] == 0
    assert files_in(tmp_path / "w" / "out") == [kept]
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_pictures_that_are_passed_over_are_named_in_one_line(run, tmp_path):
    make_photo(tmp_path / "in" / "a.png")
    make_photo(tmp_path / "in" / "b.tga")
    (tmp_path / "in" / "c.NEF").write_text("raw")
    (tmp_path / "in" / "d").write_bytes((tmp_path / "in" / "a.png").read_bytes())
    (tmp_path / "in" / "e.txt").write_text("notes")
    code, lines, refused = run("in", "-o", "out", *WORDS)
    assert (code, len(lines), len(refused)) == (2, 1, 1)
    assert "in: passed over b.tga, c.NEF, d:" in refused[0]
    (tmp_path / "in" / "a.png").unlink()
    code, lines, refused = run("in", "-o", "out", *WORDS)
    assert (code, lines, len(refused)) == (2, [], 1)
    assert "holds no picture that can be read; passed over b.tga, c.NEF, d" in refused[0]


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that nobody can write to")
@pytest.mark.parametrize("option", ["-o", "--map", "--compare", "--report"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_unwritable_folder_is_refused_once_and_before_the_work(run, tmp_path, untouched, option, count):
    for number in range(count):
        make_photo(tmp_path / "in" / f"{number}.png")
    words = {"-o": "out"} | {option: "/sys/kernel"}
    code, lines, refused = run("in", *(word for pair in words.items() for word in pair))
    assert (code, lines, len(refused)) == (2, [], 1)
    assert refused[0].startswith("the folder /sys/kernel cannot be written to (")


@pytest.mark.skipif(os.name == "nt", reason="pipes")
@pytest.mark.parametrize("option", ["-o", "--map", "--compare", "--report"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_ordinary_file_is_refused_before_the_work(run, tmp_path, untouched, option, kind):
    make_photo(tmp_path / "a.png")
    name = "odd.json" if option == "--report" else "odd.png"
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/null")
    words = {"-o": "out.png"} | {option: name}
    code, _, refused = run("a.png", *(word for pair in words.items() for word in pair))
    assert (code, len(refused)) == (2, 1)
    assert f"{name}: is no ordinary file" in refused[0]
    assert not Path("/dev/null").is_file()


def test_a_link_is_written_through(run, tmp_path):
    make_photo(tmp_path / "a.png")
    (tmp_path / "far").mkdir()
    (tmp_path / "out.png").symlink_to("far/real.png")
    assert run("a.png", "-o", "out.png", *WORDS)[0] == 0
    assert (tmp_path / "out.png").is_symlink()
    assert files_in(tmp_path / "far") == ["real.png"]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_that_leads_in_a_circle_costs_one_photograph(run, tmp_path):
    make_photo(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    code, lines, refused = run("loop.png", "a.png", "-o", "out", *WORDS)
    assert (code, len(lines), len(refused)) == (2, 1, 1)
    assert "loop.png" in refused[0]
    assert files_in(tmp_path / "out") == ["a.png"]


def test_a_full_disk_is_foreseen(run, tmp_path, untouched, monkeypatch):
    make_photo(tmp_path / "a.png", side=100)
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(10**6, 0, 50_000))
    code, _, refused = run("a.png", "-o", "out.png")
    assert (code, len(refused)) == (2, 1)
    assert "out.png needs about 175 kB of disk space, and 50 kB are free" in refused[0]


@pytest.mark.parametrize(("option", "name"), [("--report", "r.json"), ("--map", "m.png"), ("--compare", "c.png")])
def test_a_disk_too_full_for_what_goes_with_a_result_is_foreseen(run, tmp_path, untouched, monkeypatch, option, name):
    make_photo(tmp_path / "a.png")
    (tmp_path / "far").mkdir()
    own = tmp_path.stat().st_dev
    monkeypatch.setattr(
        resources, "free_bytes", lambda path: (own + 1, 500) if path.parent.name == "far" else (own, 10**9)
    )
    code, _, refused = run("a.png", "-o", "out.png", option, f"far/{name}")
    assert (code, len(refused)) == (2, 1)
    assert f"far/{name} needs about" in refused[0]
    assert "free; make room" in refused[0]


@pytest.mark.parametrize("side", [10, 100])
def test_drawings_are_foreseen_as_no_larger_than_they_become(run, tmp_path, monkeypatch, side):
    """Of photographs, that is; a map is enlarged to be readable, and was foreseen as if it were not."""
    seen = {}
    take = resources.DiskBudget._take

    def spy(self, path, needed):
        seen[path.name] = needed
        take(self, path, needed)

    monkeypatch.setattr(resources.DiskBudget, "_take", spy)
    photo = Image.open(Path(__file__).parents[3] / "photos" / "cat.jpg").convert("RGB")
    photo.crop((100, 100, 100 + side, 100 + side)).save(tmp_path / "a.png")
    assert run("a.png", "-o", "out.png", "--map", "m.png", "--compare", "c.png", "--report", "r.json")[0] == 0
    for name, needed in seen.items():
        assert 0.1 < needed / (tmp_path / name).stat().st_size < 1


@pytest.mark.parametrize(
    ("full", "named"), [({"m.png"}, "m.png cannot be written"), ({"m.png", "c.png"}, "m.png, c.png are missing: m.png")]
)
def test_a_disk_that_fills_up_costs_only_the_files_it_has_no_room_for(run, tmp_path, monkeypatch, full, named):
    make_photo(tmp_path / "a.png")
    write = outputs.write_stills

    def fill(stills, path, *more):
        if path.name in full:
            raise DiskError(f"{path} cannot be written: its disk is full, 0 kB are free; make room")
        write(stills, path, *more)

    monkeypatch.setattr(outputs, "write_stills", fill)
    words = ("--map", "m.png", "--compare", "c.png", "--report", "r.json")
    code, _, refused = run("a.png", "-o", "out.png", *words, *WORDS)
    assert (code, len(refused)) == (2, 1)
    assert named in refused[0]
    assert files_in(tmp_path) == sorted({"a.png", "out.png", "m.png", "c.png", "r.json"} - full)


def test_memory_that_is_not_there_is_foreseen(run, tmp_path, untouched, monkeypatch):
    make_photo(tmp_path / "a.png")
    monkeypatch.setattr(resources, "available_bytes", lambda: 8 * 10**9)
    code, _, refused = run("a.png", "-o", "out.png", "--size", "16000x12000", "--bands", "never")
    assert (code, len(refused)) == (2, 1)
    assert "16000 x 12000 px (192 MP) need about" in refused[0]
    assert "12.2 GB, and 8 GB are free" in refused[0]


@pytest.mark.parametrize(
    "error", [RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), MemoryError()]
)
def test_a_photo_that_memory_runs_out_for_spares_the_others(run, tmp_path, monkeypatch, error):
    for name in ("a", "b"):
        make_photo(tmp_path / f"{name}.png", seed=ord(name))
    seen = []

    def fail_first(*args, **more):
        seen.append(1)
        if len(seen) == 1:
            raise error
        return upscale(*args, **more)

    monkeypatch.setattr(making, "upscale", fail_first)
    code, lines, refused = run("a.png", "b.png", "-o", "out", *WORDS)
    assert (code, len(lines)) == (2, 1)
    assert refused == ["a.png: there is not enough memory; ask for a smaller --scale or --tile-batch"]
    assert files_in(tmp_path / "out") == ["b.png"]


def test_planning_reads_every_page(tmp_path):
    make_frames(tmp_path / "a.gif")
    draft = draft_photo(Source(tmp_path / "a.gif"), 2.0, None)
    assert [page.size for page in draft.pages] == [(16, 24)] * 3
