"""Test sets: their names, their halves, and pairs made of photographs."""

import shutil

import pytest
import torch

from adadiffsr_core.errors import ConfigError, ImageError
from adadiffsr_core.evaluation import sets
from adadiffsr_core.evaluation.sets import Picture, choose, make_pairs, parse_set, read_photos
from adadiffsr_core.photo.reading import read_photo
from tests.evaluated import save_noise


def test_halves_part_the_pictures():
    pictures = [Picture("T", str(number), None, None) for number in range(9)]
    first, second = choose(pictures, "first"), choose(pictures, "second")
    assert sorted(first + second, key=lambda picture: picture.name) == pictures
    assert not set(first) & set(second)
    assert choose(pictures, "first", every=2) == [pictures[0], pictures[4], pictures[8]]
    assert choose(pictures, limit=2) == pictures[:2]


def test_made_pairs_depend_on_the_file_name_alone(tmp_path):
    save_noise(tmp_path / "all", 3, 66)
    save_noise(tmp_path / "some", 1, 66, first=2)
    every = {pair.name: read_photo(pair.lq).pixels for pair in make_pairs("A", [tmp_path / "all"], tmp_path / "x")}
    some = make_pairs("A", [tmp_path / "some"], tmp_path / "y")
    assert torch.equal(read_photo(some[0].lq).pixels, every["2"])
    assert read_photo(some[0].gt).pixels.shape == (3, 64, 64)
    assert every["2"].shape == (3, 16, 16)


def test_made_pairs_are_kept_until_their_photograph_is_another(tmp_path):
    save_noise(tmp_path / "all", 2, 32)
    before = make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    states = {pair.name: (pair.lq.stat().st_mtime_ns, pair.lq.read_bytes()) for pair in before}
    (tmp_path / "all" / "1.png").unlink()
    save_noise(tmp_path / "other", 1, 40, first=1)
    (tmp_path / "other" / "1.png").rename(tmp_path / "all" / "1.png")
    kept, made = make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    assert (kept.lq.stat().st_mtime_ns, kept.lq.read_bytes()) == states["0"]
    assert read_photo(made.gt).pixels.shape == (3, 40, 40)
    assert made.lq.read_bytes() == make_pairs("A", [tmp_path / "all"], tmp_path / "new")[1].lq.read_bytes()


def test_a_pair_that_was_cut_short_is_made_again(tmp_path, monkeypatch):
    """Whenever it was: no low-quality picture stays that is of another truth."""
    save_noise(tmp_path / "all", 1, 32)
    (pair,) = make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    save_noise(tmp_path / "other", 1, 40, first=1)
    (tmp_path / "other" / "1.png").replace(tmp_path / "all" / "0.png")
    write, written = sets.write_photo, []

    def stop(photo, path):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(photo, path)

    monkeypatch.setattr(sets, "write_photo", stop)
    with pytest.raises(KeyboardInterrupt):
        make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    monkeypatch.setattr(sets, "write_photo", write)
    make_pairs("A", [tmp_path / "all"], tmp_path / "out")
    (fresh,) = make_pairs("A", [tmp_path / "all"], tmp_path / "new")
    assert [pair.lq.read_bytes(), pair.gt.read_bytes()] == [fresh.lq.read_bytes(), fresh.gt.read_bytes()]


@pytest.mark.parametrize("text", ["RealSR", "=x", "a=", "a/b=x", "a=:x", "a=x:", "a=x::y"])
def test_a_test_set_without_name_or_folder_is_refused(text):
    with pytest.raises(ConfigError, match="NAME=FOLDER"):
        parse_set(text)


@pytest.mark.parametrize("text", ["..=x", ".=x", "CON=x", "a\x1b=x", "a =x"])
def test_a_test_set_is_named_as_a_folder_can_be(text):
    """Its pictures go into one of that name, which must not lie anywhere else."""
    with pytest.raises(ConfigError, match="cannot be a file's name"):
        parse_set(text)


@pytest.mark.parametrize("read", [read_photos, lambda name, folders: make_pairs(name, folders, folders[0] / "out")])
@pytest.mark.parametrize("names", [("a/x.png", "a/x.jpg"), ("a/x.png", "b/x.png")])
def test_two_files_of_one_name_are_refused_rather_than_one_lost(tmp_path, read, names):
    for folder in ("a", "b"):
        save_noise(tmp_path / folder, 1, 16)
    for name in names:
        shutil.copy(tmp_path / "a" / "0.png", tmp_path / name)
    (tmp_path / "b" / "0.png").rename(tmp_path / "b" / "1.png")
    with pytest.raises(ImageError, match="both mean x"):
        read("s", [tmp_path / "a", tmp_path / "b"])
    assert not (tmp_path / "a" / "out" / "s" / "lq" / "x.png").exists()


def test_a_picture_too_small_for_a_truth_is_named(tmp_path):
    save_noise(tmp_path / "tiny", 1, 3)
    with pytest.raises(ImageError, match=r"0\.png has 3 x 3 px"):
        make_pairs("s", [tmp_path / "tiny"], tmp_path / "out")
    save_noise(tmp_path / "small", 1, 4)
    (pair,) = make_pairs("s", [tmp_path / "small"], tmp_path / "out")
    assert read_photo(pair.lq).pixels.shape == (3, 1, 1)
