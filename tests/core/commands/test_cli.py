"""`adadiffsr upscale`: one photograph in, one out, with its kind, mask, map, report and comparison."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.cli import main
from adadiffsr_core.commands.masks import open_mask
from adadiffsr_core.models.checkpoint import load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.photo.enlarging import enlarge
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.settings import SamplingConfig
from tests.core.commands.upscaled import DONE, SIDE, files_in, make_photo
from tests.core.photo.test_tiff import raw_tiff


def test_one_photo_becomes_one_file_and_one_line(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    code, lines, refused = run("photo.png", "-o", "big.png")
    assert (code, refused) == (0, [])
    (line,) = lines
    name, spent, full, saved = DONE.match(line).groups()
    assert name == "photo.png"
    assert int(saved) == round(100 * (1 - int(spent) / int(full)))
    assert read_photo("big.png").pixels.shape == (3, 4 * SIDE, 4 * (SIDE + 4))
    assert files_in(tmp_path) == ["big.png", "photo.png"]


def test_the_same_words_give_the_same_bytes_and_another_seed_does_not(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("photo.png", "-o", f"{name}.png", "--seed", seed, "--colour", "none")[0] == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_the_result_is_what_the_pipeline_gives(run, tmp_path, weights):
    photo = read_photo(make_photo(tmp_path / "photo.png"))
    run("photo.png", "-o", "big.png", "--scale", "2", "--seed", "5", "--solver", "ddpm", "--uniform", "2", steps=4)
    settings = SamplingConfig(steps=4, seed=5, solver="ddpm").uniform(2)
    expected = upscale(load_model(weights), photo.pixels[None], (2 * SIDE, 2 * SIDE + 8), settings)
    assert (read_photo("big.png").pixels - expected.image[0]).abs().max() <= 0.5 / 255 + 1e-6


def test_a_check_says_how_near_tiles_come_to_all_steps(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    code, out, _ = run("photo.png", "-o", "big.png", "--budget", "2", "--check", "--report", "r.json", steps=4)
    assert code == 0
    report = json.loads(Path("r.json").read_text())
    assert len(report["checked_db"]) == len(report["tiles"])
    assert "tiles beside all steps" in out[1]
    assert all(5 < value < 100 for value in report["checked_db"])
    run("photo.png", "-o", "big.png", "--likeness", "100", "--check", "--report", "r.json", steps=4)
    assert set(json.loads(Path("r.json").read_text())["checked_db"]) == {None}


def test_map_report_and_comparison_are_written(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    extra = ("--map", "m.png", "--report", "r.json", "--compare", "c.png")
    code, lines, _ = run("photo.png", "-o", "big.png", *extra, "--uniform", "1", steps=3)
    assert code == 0
    report = json.loads(Path("r.json").read_text())
    assert report["nfe"] == report["full_nfe"] == int(DONE.match(lines[0]).group(2)) == 3
    assert report["output_size_px"] == [4 * (SIDE + 4), 4 * SIDE]
    assert report["input_size_px"] == [SIDE + 4, SIDE]
    assert report["settings"]["dtss"]["intervals"] == [1, 1, 1, 1]
    assert len(report["tiles"]) == 1
    assert max(read_photo("m.png").pixels.shape) >= 640
    assert read_photo("c.png").pixels.shape[2] > 2 * 4 * SIDE


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("I;16", "png"), ("RGBA", "tif"), ("L", "jpg")]
)
def test_kind_of_picture_is_kept(run, tmp_path, mode, suffix):
    before = read_photo(make_photo(tmp_path / f"photo.{suffix}", mode))
    assert run(f"photo.{suffix}", "-o", f"big.{suffix}", "--scale", "2")[0] == 0
    after = read_photo(f"big.{suffix}")
    assert (after.is_grey, after.bit_depth) == (before.is_grey, before.bit_depth)
    assert (after.alpha is None) == (before.alpha is None)
    if before.alpha is not None:
        expected = enlarge(before.alpha[None], (2 * SIDE, 2 * SIDE + 8))[0]
        assert (after.alpha - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_an_opaque_alpha_stays_opaque(run, tmp_path):
    Image.new("RGBA", (SIDE, SIDE), (90, 40, 200, 255)).save(tmp_path / "photo.png")
    assert run("photo.png", "-o", "big.png", "--scale", "1.7")[0] == 0
    assert bool((read_photo("big.png").alpha == 1).all())


def test_a_mask_of_several_frames_says_which_is_taken(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    for name, parts in (("mask.gif", "2 frames"), ("mask.tif", "2 pages")):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        _, _, said = run("photo.png", "-o", "big.png", "--mask", name)
        assert f"the mask {name} has {parts}; the first is taken" in said


def test_mask_saves_evaluations(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    Image.new("L", (9, 7), 0).save(tmp_path / "black.png")
    Image.new("RGB", (9, 7), (255, 255, 255)).save(tmp_path / "white.png")
    for mask, nfe in (("black", 0), ("white", 5)):
        _, lines, _ = run("photo.png", "-o", f"{mask}-big.png", "--mask", f"{mask}.png", "--scale", "1", steps=5)
        assert DONE.match(lines[0]).groups()[1:3] == (str(nfe), "5")


def test_black_comes_back_to_the_level(run, tmp_path):
    make_photo(tmp_path / "photo.png", "RGBA")
    Image.new("L", (2, 1), 0).save(tmp_path / "black.png")
    Image.frombytes("L", (2, 1), bytes([0, 255])).save(tmp_path / "half.png")
    given = np.asarray(Image.open(tmp_path / "photo.png"))
    for mask, width in (("black", SIDE + 4), ("half", SIDE // 2 + 2)):
        run("photo.png", "-o", f"{mask}-big.png", "--mask", f"{mask}.png", "--scale", "1")
        found = np.asarray(Image.open(tmp_path / f"{mask}-big.png"))
        assert np.array_equal(found[:, :width], given[:, :width])


def test_a_transparent_mask_asks_for_nothing(tmp_path):
    Image.fromarray(np.array([[[255, 255], [0, 255], [255, 0], [0, 0]]], np.uint8), "LA").save(tmp_path / "mask.png")
    assert open_mask(tmp_path / "mask.png").read_whole().tolist() == [[[[1.0, 0.0, 0.5, 0.5]]]]


def test_damage_within_a_jpeg_is_told(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as picture:
        picture.save(tmp_path / "photo.jpg", progressive=True, quality=95)
    words = ["upscale", "photo.jpg", "-o", "big.png", "--model", str(weights), "--steps", "2"]
    note = "note: photo.jpg is damaged in places, which its decoder filled; look at it"
    assert main(words) == 0
    assert note not in capsys.readouterr().err
    whole = (tmp_path / "photo.jpg").read_bytes()
    middle = len(whole) * 2 // 3
    (tmp_path / "photo.jpg").write_bytes(whole[:middle] + bytes(20) + whole[middle + 20 :])
    assert main(words) == 0
    assert note in capsys.readouterr().err


def test_a_saved_selection_is_no_transparency_and_said_to_be_left_out(run, tmp_path, weights, capsys):
    page = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    page[:, :10, 3] = 0
    (tmp_path / "plain.tif").write_bytes(raw_tiff([(page[..., :3], {})], photometric=2))
    (tmp_path / "saved.tif").write_bytes(raw_tiff([(page, {})], photometric=2, _338=0))
    note = "note: saved.tif has channels that are neither colours nor transparency, such as saved selections; they are"
    for bands in ("never", "always"):
        words = ["--model", str(weights), "--steps", "2", "--bands", bands]
        for name in ("plain", "saved"):
            assert main(["upscale", f"{name}.tif", "-o", f"{name}-{bands}.tif", *words]) == 0
            assert (note in capsys.readouterr().err) == (name == "saved")
        plain, saved = ((tmp_path / f"{name}-{bands}.tif").read_bytes() for name in ("plain", "saved"))
        assert plain == saved


def test_a_mask_says_what_a_photograph_would(run, tmp_path, weights, capsys):
    """A selection that was saved in the mask's file is not the mask."""
    make_photo(tmp_path / "photo.png")
    levels = np.random.default_rng(0).integers(100, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    (tmp_path / "saved.tif").write_bytes(raw_tiff([(levels, {})], photometric=2, _338=0))
    Image.fromarray(levels[..., :3]).save(tmp_path / "whole.jpg", progressive=True, quality=95)
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    middle = len(jpeg) * 2 // 3
    (tmp_path / "broken.jpg").write_bytes(jpeg[:middle] + bytes(20) + jpeg[middle + 20 :])
    Image.fromarray(levels[..., :3]).save(tmp_path / "plain.png")
    told = {
        "saved.tif": "such as saved selections",
        "broken.jpg": "is damaged in places",
        "whole.jpg": "",
        "plain.png": "",
    }
    for name, note in told.items():
        for bands in ("never", "always"):
            words = ["--mask", name, "--model", str(weights), "--steps", "2", "--bands", bands]
            assert main(["upscale", "photo.png", "-o", "big.png", *words]) == 0
            error = capsys.readouterr().err
            assert f"note: {name}" in error if note else "note: " not in error, (name, bands)
            assert note in error


def test_a_strange_scale_is_worked_at_a_known_one_and_told(run, tmp_path, weights, capsys):
    make_photo(tmp_path / "photo.png")
    checkpoint = load_checkpoint(weights)
    plain = {name: section for name, section in checkpoint.config.items() if name != "scales"}
    save_checkpoint(replace(checkpoint, config=plain), tmp_path / "plain.safetensors")
    words = ["photo.png", "-o", "big.png", "--map", "map.png", "--report", "big.json", "--steps", "2"]
    for scale, work in (("2", [96, 80]), ("9", [216, 180]), ("4", [96, 80])):
        assert main(["upscale", *words, "--model", "plain.safetensors", "--scale", scale]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        report = json.loads((tmp_path / "big.json").read_text())
        assert report["work_size_px"] == work
        assert told == ([f"note: photo.png: {report['note']}"] if scale != "4" else [])
        with Image.open(tmp_path / "big.png") as picture:
            assert picture.size == (24 * int(scale), 20 * int(scale))


def test_hidden_colours_reach_no_picture(run, tmp_path):
    photo = make_photo(tmp_path / "a.png", "RGBA")
    levels = np.array(Image.open(photo))
    levels[5:15, 5:, 3], levels[:5, :, 3], levels[15:, :, 3], levels[:, :5, 3] = 0, 255, 255, 255
    Image.fromarray(levels).save(photo)
    levels[5:15, 5:, :3] = 255 - levels[5:15, 5:, :3]
    Image.fromarray(levels).save(tmp_path / "b.png")
    for name in "ab":
        run(f"{name}.png", "-o", f"{name}-big.png", "--map", f"{name}-map.png", "--compare", f"{name}-compare.png")
    for kind in ("big", "map", "compare"):
        assert (tmp_path / f"a-{kind}.png").read_bytes() == (tmp_path / f"b-{kind}.png").read_bytes()


def test_upscaling_needs_no_training_extra(run, tmp_path, monkeypatch):
    make_photo(tmp_path / "photo.png")
    for name in ("cv2", "scipy", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("photo.png", "-o", "big.png", "--scale", "1", "--map", "m.png", "--compare", "c.png")[0] == 0
