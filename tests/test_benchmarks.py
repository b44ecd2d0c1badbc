"""Every benchmark gets past its set-up and through one round, at a tiny size; what it says of time does not matter.

Those of ComfyUI are in `tests/host/test_host_benchmarks.py`.
"""

import importlib
import json
import multiprocessing
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from adadiffsr_core.errors import CheckpointError, MissingExtraError
from adadiffsr_core.models import ldm_format
from adadiffsr_core.training.loop.loop import Run
from benchmarks.fidelity import SPOILT
from tests.host.own import write_bundle
from tests.toy_sd import ENCODER, save_sd

ROOT = Path(__file__).resolve().parents[1]
HOSTS = {"host_overhead", "sd21"}
TESTED = {
    "bands", "camera_blur", "cluster_overhead", "cluster_scaling", "cluster_travel", "comparators", "complexity",
    "courses", "degradation", "fidelity", "finetune_sd21", "likeness", "memory", "overhead", "round_trip",
    "training_speed",
}  # fmt: skip
COMPARATORS = ("Real-ESRGAN", "RealSR", "RealSR-JPEG", "DAT-light")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(monkeypatch, capfd):
    """Runs a benchmark with such arguments, as from the repository's folder; what it and its processes printed."""

    def run_main(name, *words):
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        importlib.import_module(f"benchmarks.{name}").main()
        return capfd.readouterr().out

    return run_main


@pytest.fixture
def model(tmp_path):
    """Of as many channels as the embedded one has, not the paper's four."""
    return write_bundle(tmp_path / "model.safetensors")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.effect_noise((40, 32), 60).convert("RGB").save(folder / "one.png")
    return folder


def read_columns(table):
    """The first column of a Markdown table, without its head."""
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    return [row.split("|")[1].strip() for row in rows[1:] if not row.startswith("| ---")]


def test_no_benchmark_is_without_a_test():
    assert {path.stem for path in (ROOT / "benchmarks").glob("*.py")} == TESTED | HOSTS


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'adadiffsr[cluster]'")
def test_bands(run, model, pictures):
    told = run(
        "bands", pictures / "one.png", "--crop", 24, "--workers", "", "--words", "--uniform 12", "--model", model
    )
    assert told.count(" MB  ") == 2
    assert "the same file" in told


def test_cluster_overhead(run, model, pictures):
    assert "median ratio" in run(
        "cluster_overhead", pictures, "--count", 2, "--side", 16, "--rounds", 1, "--model", model
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install 'adadiffsr[cluster]'")
def test_cluster_scaling(run):
    words = ("--workers", "0,1,2", "--seconds", 0.001, "--photos", 2, "--rows", 6, "--lost", 2)
    told = run("cluster_scaling", *words)
    assert read_columns(told[: told.index("killed")])[:6] == ["folder"] * 3 + ["picture"] * 3
    assert told.count("one of 2 workers killed halfway") == 2


def test_what_travels_in_a_cluster(run):
    pytest.importorskip("ray")
    told = run("cluster_travel", "--wide", 512)
    assert read_columns(told)[:4] == ["EncodeWork", "SampleWork", "DecodeWork", "PhotoTask"]
    assert "bytes a px" in told


def test_overhead(run, model, tmp_path):
    out = tmp_path / "out.json"
    words = ("--tiles", 2, "--tile-batch", 2, "--rounds", 1, "--steps", 2, "--model", model, "--out", out)
    assert read_columns(run("overhead", *words)) == ["uniform", "adaptive"]
    assert {len(row["all"]) for row in json.loads(out.read_text()).values()} == {1}


def test_fidelity(run, model, pictures):
    """Of whatever model, plain colours come out as they went in."""
    told = run("fidelity", pictures, "--model", model, "--seeds", 0, 1, "--spoilt", *SPOILT).splitlines()
    plain = [float(line.split()[-2]) for line in told if line.startswith("plain")]
    assert len(plain) == 7
    assert max(plain) < 0.05
    ways = ("doubled", "without back-projection", "bicubic")
    assert [line.partition(":")[0] for line in told[-15:]] == [f"{kind}, {way}" for kind in SPOILT for way in ways]


def test_likeness(run, model, pictures, tmp_path):
    out = tmp_path / "out.json"
    words = ("--tile-px", 64, "--scale", 2, "--steps", 4, "--model", model, "--out", out)
    table = run("likeness", pictures, *words)
    rows = json.loads(out.read_text())
    assert read_columns(table[table.index("| schedule") :]) == list(rows)
    assert {"paper", "course 3", "intervals 2", "bounded 40 dB"} < set(rows)
    assert rows["course 3"]["nfe"] == [3.0]
    assert all(0 <= row["error"][0] < 1 for row in rows.values())
    chart = tmp_path / "chart.png"
    twice = run("likeness", "--read", out, out, "--chart", chart)
    assert twice[twice.index("| schedule") :] == table[table.index("| schedule") :]  # of the same tile
    with Image.open(chart) as picture:
        assert picture.size == (704, 462)


def test_courses(run, model, pictures):
    """No worse than the course that it begins with."""
    words = ("--tile-px", 64, "--scale", 2, "--model", model, "--evaluations", 4, 3)
    before, after = (run("courses", pictures, *words, "--tries", tries).splitlines() for tries in (0, 3))
    assert [line.split()[0] for line in after] == ["4", "3"]
    likeness = [[float(line.split()[-1]) for line in lines] for lines in (before, after)]
    assert likeness[1][0] >= likeness[0][0]
    given = run("courses", pictures, *words[:-3], "--course", "0,6,12,23", "0,23").splitlines()
    assert [line.split(":")[0] for line in given] == ["4 evaluations at (0, 6, 12, 23)", "2 evaluations at (0, 23)"]


@pytest.fixture
def refuse(run, capfd):
    """Runs a benchmark that refuses its arguments, and gives the last line that it says."""

    def run_refused(name, *words):
        with pytest.raises(SystemExit) as ended:
            run(name, *words)
        assert ended.value.code == 2
        return capfd.readouterr().err.strip().splitlines()[-1]

    return run_refused


def test_what_lies_beside_photographs_is_passed_over(pictures):
    for name in ("README.md", ".hidden.png", "notes.txt"):
        (pictures / name).write_text("no picture")
    (pictures / "folder.png").mkdir()
    likeness = importlib.import_module("benchmarks.likeness")
    listed = likeness.list_photos(SimpleNamespace(photos=[pictures], first=0, every=1))
    assert [path.name for path in listed] == ["one.png"]
    assert len(likeness.list_photos(SimpleNamespace(photos=[ROOT / "photos"], first=0, every=1))) == 6


@pytest.mark.parametrize("name", ["likeness", "courses", "fidelity"])
def test_a_folder_without_photographs_is_refused(refuse, tmp_path, name):
    (tmp_path / "README.md").write_text("no picture")
    assert "holds no image" in refuse(name, tmp_path)


@pytest.mark.parametrize("name", ["likeness", "courses"])
def test_photographs_that_are_smaller_than_a_tile_are_refused(refuse, model, pictures, name):
    told = refuse(name, pictures, "--tile-px", 256, "--model", model)
    assert "no photograph has the 64 px on each side that a tile of 256 px is made of" in told


@pytest.mark.parametrize("course", ["0,40", "0,12", "3,23", "0,6,6,23", "0,12,6,23", "all"])
def test_what_is_no_course_is_refused(refuse, pictures, course):
    assert "is no course: base steps that rise from 0 to 23" in refuse("courses", pictures, "--course", course)


@pytest.mark.parametrize("counts", [[30], [1], [0], [24], [22, 21], [19, 21]])
def test_numbers_of_evaluations_that_no_course_is_near_are_refused(refuse, pictures, counts):
    assert "there is no course to begin with for" in refuse("courses", pictures, "--evaluations", *counts)


def test_a_course_that_was_found_is_one_to_begin_with():
    importlib.import_module("benchmarks.courses").check_counts([17, 18, 19, 20, 21, 22, 23, 24, 2])


def test_camera_blur(run, pictures):
    assert "| 1 of " in run("camera_blur", f"{pictures}:{pictures}")


@pytest.mark.parametrize("small", [pytest.param(False, marks=pytest.mark.slow), True])
def test_complexity(run, tmp_path, small):
    model, out = write_bundle(tmp_path / "model.safetensors", small=small), tmp_path / "out.json"
    run("complexity", "--tile-batch", 1, "--rounds", 1, "--model", model, "--out", out)
    assert set(json.loads(out.read_text())["seconds_per_tile"]) == {"UNet", "MMLE", "PFJ modulation", "PFJ features"}


def test_memory_of_the_sampler_alone(run):
    assert read_columns(run("memory", "--tiles-per-side", 1, "--sides", "")) == ["sampler"]


def test_memory_of_the_whole_pipeline(run):
    assert float(run("memory", "--child", "pipeline", 64)) > 0


def test_degradation(run, tmp_path):
    out = tmp_path / "out.json"
    words = ("--batch", 2, "--size", 64, "--rounds", 1, "--batches", 1, "--single", 1, "--threads", 1, "--out", out)
    run("degradation", *words)
    found = json.loads(out.read_text())
    assert set(found["counts"]) == set(found["seconds"]) == {"photographs", "draws", "all", *stages()}


def stages():
    return importlib.import_module("benchmarks.degradation").STAGES


def test_degradation_that_only_counts(run):
    assert "crops per second" in run("degradation", "--device", "meta", "--batch", 2, "--size", 64)


def test_training_speed(run):
    table = run("training_speed", "--device", "cpu", "--rounds", 1, "--batch", 1, "--px", 64)
    nets = ["autoencoder, embedded", "autoencoder, recipe", "UNet, embedded", "UNet, recipe"]
    assert list(dict.fromkeys(read_columns(table))) == nets


@pytest.mark.filterwarnings("ignore")  # of packages that measure; what they say is not ours to mend
def test_round_trip(run, pictures, model):
    words = ("--images", f"noise={pictures}", "--autoencoder", model, "--px", 64, "--rounds", 1)
    assert read_columns(run("round_trip", *words)) == ["embedded", model.stem]


class AtOnce:
    """A process that is none, so that what is patched holds in it."""

    def __init__(self, target, args):
        self.start, self.join = partial(target, *args), lambda: None


def test_finetune_sd21(run, monkeypatch, tmp_path):
    monkeypatch.setattr(ldm_format, "SdEncoderConfig", lambda: ENCODER)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: SimpleNamespace(Process=AtOnce))
    for name in ("__init__", "_one_step", "save"):  # the benchmark replaces them
        monkeypatch.setattr(Run, name, getattr(Run, name))
    told = run("finetune_sd21", save_sd(tmp_path / "sd.safetensors"), tmp_path / "run", "--px", 64, "--steps", 1, 2)
    assert "up to step 1: status 0" in told
    assert "up to step 2: status 0" in told
    assert "all finite: False" not in told


def test_comparators_make_what_is_not_there_yet(run, monkeypatch, pictures, tmp_path):
    from benchmarks import comparators

    monkeypatch.setitem(comparators.COMPARATORS, "DAT-light", lambda threads, archive: enlarge)
    run("comparators", "DAT-light", pictures, tmp_path / "out")
    path = tmp_path / "out" / "one.png"
    with Image.open(path) as made:
        assert made.size == (160, 128)
    before = path.stat().st_mtime_ns
    run("comparators", "DAT-light", pictures, tmp_path / "out")
    assert path.stat().st_mtime_ns == before


def enlarge(image):
    return image.repeat(4, axis=1).repeat(4, axis=2)


@pytest.mark.filterwarnings("ignore")  # of packages that run other people's networks
@pytest.mark.parametrize("name", COMPARATORS)
def test_a_comparator_whose_weights_are_here_enlarges(run, pictures, tmp_path, name):
    try:
        run("comparators", name, pictures, tmp_path / "out")
    except (MissingExtraError, CheckpointError) as error:
        pytest.skip(str(error))
    with Image.open(tmp_path / "out" / "one.png") as made:
        assert made.size == (160, 128)
