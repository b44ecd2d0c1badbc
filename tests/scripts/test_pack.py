"""What travels: the budget holds, nothing changes sides, and readers read it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from adadiffsr_core.data.dataset import split_photos
from adadiffsr_core.data.photo_files import find_images, load_image
from adadiffsr_core.errors import ConfigError, MissingExtraError
from scripts.device import pack as packing
from scripts.device.environment import ROOT, child_environment
from scripts.device.pack import PackConfig, pack
from scripts.device.photographs import Encoding, list_crops, order_crops

PHOTOGRAPHS, CROPS = 60, 3


@pytest.fixture
def photos(tmp_path):
    """60 photographs of three crops each, and 20 files that the table does not list."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["crop\tsource\tlicence\tphoto\tsize"]
    for photo in range(PHOTOGRAPHS):
        for crop in range(CROPS):
            name = f"{photo:02d}_{crop}.jpg"
            Image.fromarray(rng.integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(folder / name)
            lines.append(f'{name}\tus {photo % 2}\tCC0\tthe "{photo // 2}".jpg\t32')
    (folder / "SOURCES.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for alone in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 32, 3), dtype=np.uint8)).save(folder / f"alone{alone}.png")
    return folder


def original(path):
    """The file's name before the journey."""
    return path.name if path.name.startswith("alone") else path.name.removesuffix(".webp")


@pytest.mark.parametrize(("megabytes", "codec"), [(0.05, "jpeg"), (10, "jpeg"), (10, "webp")])
def test_no_photograph_changes_sides(photos, tmp_path, megabytes, codec):
    pack([photos], tmp_path / "pack", PackConfig(megabytes=megabytes, encoding=Encoding(codec=codec)))
    for holdout in (0.05, 0.3, 0.7):
        here = split_photos(find_images([photos]), holdout)
        there = split_photos(find_images([tmp_path / "pack" / "photos"]), holdout)
        for side_here, side_there in zip(here, there, strict=True):
            assert {original(path) for path in side_there} <= {path.name for path in side_here}
        if megabytes == 10:
            assert sum(map(len, there)) == sum(map(len, here)) == PHOTOGRAPHS * CROPS + 20


def test_the_choice_does_not_prefer_a_side(photos):
    """An order by the split's own hash would take all that are held out first."""
    first = [crop.path for crop in order_crops(list_crops(find_images([photos])), seed=0)][:40]
    assert 4 <= len(split_photos(first, 0.3).held_out) <= 22


def test_the_budget_holds_and_is_used(photos, tmp_path):
    for megabytes in (0.02, 0.1):
        pack([photos], tmp_path / "pack", PackConfig(megabytes=megabytes))
        used = sum(path.stat().st_size for path in (tmp_path / "pack" / "photos").rglob("*"))
        assert 0.9 * megabytes * 2**20 - 4096 < used <= megabytes * 2**20


def test_every_photograph_comes_before_a_second_crop_of_one(photos):
    crops = list(order_crops(list_crops(find_images([photos])), seed=3))
    shown = [crop.photo for crop in crops]
    everything = PHOTOGRAPHS + 20
    assert len(set(shown[:everything])) == everything
    assert len(shown) == len({crop.path for crop in crops}) == PHOTOGRAPHS * CROPS + 20


def test_another_seed_brings_others(photos):
    crops = list_crops(find_images([photos]))
    one, other = ({crop.path for crop in list(order_crops(crops, seed))[:80]} for seed in (0, 1))
    assert len(one & other) < 60


def test_a_second_journey_takes_what_the_first_did_not(photos, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    pack([photos], first, PackConfig(megabytes=0.05))
    pack([photos], second, PackConfig(megabytes=0.05, after=(first,)))
    one, other = ({path.name for path in find_images([folder / "photos"])} for folder in (first, second))
    assert one
    assert other
    assert not one & other
    with pytest.raises(ConfigError, match="not a pack"):
        pack([photos], second, PackConfig(after=(photos,)))


@pytest.mark.parametrize("codec", ["webp", "jpeg"])
def test_photographs_are_those_of_before_but_for_scale_and_codec(tmp_path, codec):
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[:64, :96]
    smooth = np.stack([2 * x, 2 * y, x + y], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(folder / "a.png")
    pack([folder], tmp_path / "pack", PackConfig(encoding=Encoding(codec=codec, quality=95, scale=0.5)))
    made = load_image(
        tmp_path / "pack" / "photos" / "a.png"
    )  # its name holds whatever its content: the split goes by it
    assert made.shape == (32, 48, 3)
    expected = np.asarray(Image.fromarray(smooth).resize((48, 32), Image.Resampling.LANCZOS))
    assert np.abs(made.astype(int) - expected).mean() < 3


def test_folders_with_the_same_names_stay_apart(photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (32, 32)).save(other / "alone0.png")
    pack([photos, other], tmp_path / "pack", PackConfig())
    assert len(find_images([tmp_path / "pack" / "photos"])) == PHOTOGRAPHS * CROPS + 21


def test_a_pack_is_replaced_and_anything_else_is_not(photos, tmp_path):
    out = tmp_path / "pack"
    pack([photos], out, PackConfig())
    pack([photos], out, PackConfig(megabytes=0.05))
    facts = json.loads((out / "pack.json").read_text())
    assert len(facts["names"]) == len(find_images([out / "photos"])) < 100
    with pytest.raises(ConfigError, match="no pack"):
        pack([photos], photos, PackConfig())
    assert (photos / "SOURCES.tsv").is_file()


def test_bad_settings_are_refused(photos, tmp_path):
    for bad in ({"codec": "gif"}, {"quality": 0}, {"scale": 1.5}):
        with pytest.raises(ConfigError):
            Encoding(**bad)
    with pytest.raises(ConfigError, match="no photograph fits"):
        pack([photos], tmp_path / "pack", PackConfig(megabytes=0.001))


@pytest.fixture
def perceptual(tmp_path, monkeypatch):
    """A package like the real one, with a large file that must stay."""
    package = tmp_path / "site" / "stlpips_pytorch"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("from torchsummary import summary\n")
    (package / "weights" / "alex_shift_tolerant.pth").write_bytes(b"alex")
    (package / "weights" / "vgg_shift_tolerant.pth").write_bytes(b"vgg")
    info = tmp_path / "site" / "stlpips_pytorch-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stlpips-pytorch\nVersion: 0.0\nLicense: BSD\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package


def test_the_perceptual_metric_travels_without_what_it_never_uses(photos, tmp_path, perceptual):
    out = tmp_path / "pack"
    pack([photos], out, PackConfig(megabytes=0.05, perceptual=True))
    taken = out / "packages" / "stlpips_pytorch"
    assert (taken / "weights" / "alex_shift_tolerant.pth").read_bytes() == b"alex"
    assert not list(out.rglob("*vgg*"))
    assert (taken / "LICENSE").read_text() == "BSD"
    path = child_environment(out)["PYTHONPATH"].split(":")
    assert str(out / "packages") in path


def test_stubs_stand_in_only_for_what_is_missing(photos, tmp_path, perceptual, monkeypatch):
    out = tmp_path / "pack"
    pack([photos], out, PackConfig(megabytes=0.05, perceptual=True))
    (tmp_path / "real" / "torchsummary").mkdir(parents=True)
    (tmp_path / "real" / "torchsummary" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "real"))
    assert str(out / "stubs" / "torchsummary") not in child_environment(out)["PYTHONPATH"]


def test_charts_are_drawn_beside_a_stub(photos, tmp_path, perceptual):
    """matplotlib asks an IPython that was imported for its version; on the machine that has none it met the stub."""
    out = tmp_path / "pack"
    pack([photos], out, PackConfig(megabytes=0.05, perceptual=True))
    draw = (
        "import sys, IPython; from pathlib import Path; from adadiffsr_core.drawing.charts import save_loss_chart;"
        "assert 'stubs' in IPython.__file__;"
        "save_loss_chart([{'step': 1, 'a': 1.0}, {'step': 2, 'a': 0.5}], Path(sys.argv[1]), title='a')"
    )
    paths = os.pathsep.join([str(out / "stubs" / "IPython"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"}
    chart = tmp_path / "losses.png"
    done = subprocess.run([sys.executable, "-c", draw, chart], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert chart.is_file()


def test_a_metric_that_is_not_installed_is_named(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.device.perceptual.PathFinder.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install stlpips-pytorch"):
        pack([photos], tmp_path / "pack", PackConfig(perceptual=True))


def test_the_command_says_what_it_took(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pack", str(photos), str(tmp_path / "pack"), "--megabytes", "0.05"])
    assert packing.main() == 0
    assert "of 200 crops" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["pack", str(photos), str(photos)])
    assert packing.main() == 2
    assert "no pack" in capsys.readouterr().err
