"""Pictures in bands by the command line: the files of the whole, in little memory, and gone on with after a kill."""

import json
from pathlib import Path

import pytest

from adadiffsr_core.commands import banded, resources
from adadiffsr_core.commands.interrupts import STOPPED_CODE
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.streaming import bands as bands_module
from tests.core.commands import test_cli

run, weights = test_cli.run, test_cli.weights
make_photo = test_cli.make_photo
EXTRA = ("--map", "{0}-map.png", "--compare", "{0}-compare.png", "--report", "{0}.json")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(bands_module, "_FINISHED_PX", 16)


def words(name, *more):
    return ["in.png", "-o", f"{name}.png", *(word.format(name) for word in EXTRA), *more]


def read_report(name):
    report = json.loads(Path(f"{name}.json").read_text())
    return {key: value for key, value in report.items() if key not in ("output", "seconds")}


@pytest.mark.parametrize("kind", ["png", "tif", "jpg"])
def test_files_are_those_of_the_whole(run, tmp_path, kind):
    make_photo(Path("in.png"), side=30)
    for name, mode in (("whole", "never"), ("bands", "always")):
        code, _, refused = run("in.png", "-o", f"{name}.{kind}", "--scale", "1", "--bands", mode)
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


def test_what_memory_cannot_hold_is_made_in_bands(run, monkeypatch):
    make_photo(Path("in.png"), side=30)
    monkeypatch.setattr(resources, "available_bytes", lambda: resources.BASE_BYTES + 20_000)
    monkeypatch.setattr(banded, "available_bytes", lambda: 10**9)
    code, lines, refused = run("in.png", "-o", "out.png", "--scale", "1")
    assert (code, refused) == (0, [])
    assert "in bands" in " ".join(lines)


def test_what_memory_cannot_even_hold_a_band_of_is_refused(run, monkeypatch):
    make_photo(Path("in.png"), side=30)
    for module in (resources, banded):
        monkeypatch.setattr(module, "available_bytes", lambda: resources.BASE_BYTES + 1000)
    code, _, refused = run("in.png", "-o", "out.png", "--scale", "1")
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

    def stop(self, path, height, quality):
        raise KeyboardInterrupt

    write = Spool.write
    monkeypatch.setattr(Spool, "write", stop)
    assert run("in.png", "-o", "out.png", "--bands", "always")[0] == STOPPED_CODE
    monkeypatch.setattr(Spool, "write", write)
    assert run("in.png", "-o", "out.png", "--bands", "always", "--seed", "1")[0] == 0
    assert Path("out.png").read_bytes() == Path("other.png").read_bytes()


@pytest.mark.parametrize(
    ("more", "out", "told"),
    [
        (("--mask", "in.png"), "out.png", "--mask needs the whole picture"),
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
    scales, cpu = banded.Scales(), banded.torch.device("cpu")
    monkeypatch.setattr(resources, "available_bytes", lambda: 10**10)
    auto = banded.Banding("auto", scales, cpu)
    assert not auto.is_for((1000, 1000), (4000, 4000))
    assert auto.is_for((4000, 4000), (16000, 16000))  # 16 GB
    monkeypatch.setattr(resources, "available_bytes", lambda: None)
    assert not auto.is_for((4000, 4000), (16000, 16000))
    assert auto.is_for((5000, 5000), (20000, 20000))
    assert auto.is_for((8000, 8000), (16000, 16000))  # worked at 4
    assert not auto.is_for((100, 100), (20000, 20000))  # 200 times larger is refused, as it was
