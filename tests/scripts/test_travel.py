"""What travels is counted as it is copied, and what is set aside comes back."""

import subprocess

import pytest

from adadiffsr_core.errors import ConfigError
from scripts.device.travel import LIMIT_MIB, describe, list_travellers, restore, set_aside


def git(folder, *words):
    return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tree(tmp_path):
    """A checkout of a large file and a small one; one new file, one ignored."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.email", "a@b")
    git(tmp_path, "config", "user.name", "a")
    (tmp_path / "large.bin").write_bytes(bytes(range(256)) * 400)
    (tmp_path / "small.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("/out/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "new.txt").write_text("new")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pack").write_bytes(bytes(1000))
    return tmp_path


def test_tracked_new_and_carried_files_travel_and_ignored_ones_do_not(tree):
    expected = {"large.bin": 102400, "small.py": 6, ".gitignore": 6, "new.txt": 3}
    assert list_travellers(tree, []) == expected
    assert list_travellers(tree, [tree / "out"]) == {**expected, "out/pack": 1000}
    assert "1000" not in describe(expected)
    assert "fits" in describe(expected)
    assert "too much" in describe({"a": int((LIMIT_MIB + 1) * 2**20)})


def test_what_is_set_aside_is_still_there_but_small_and_comes_back(tree):
    before = (tree / "large.bin").read_bytes()
    git(tree, "add", "new.txt")
    status = git(tree, "status", "--porcelain")
    set_aside(tree, ["large.bin"])
    set_aside(tree, ["small.py"])
    assert 0 < (tree / "large.bin").stat().st_size < 200
    assert sum(list_travellers(tree, []).values()) < 1000
    assert restore(tree) == ["large.bin", "small.py"]
    assert (tree / "large.bin").read_bytes() == before
    assert git(tree, "status", "--porcelain") == status
    assert restore(tree) == []


def test_no_commit_takes_the_line_for_the_file(tree):
    set_aside(tree, ["large.bin"])
    (tree / "small.py").write_text("x = 3\n")
    git(tree, "add", "--all")
    git(tree, "-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-m", "another")
    assert "large.bin" not in git(tree, "show", "--name-only", "--format=", "HEAD")
    restore(tree)
    assert (tree / "large.bin").stat().st_size == 102400


def test_setting_aside_twice_is_once(tree):
    set_aside(tree, ["large.bin"])
    set_aside(tree, ["large.bin"])
    assert restore(tree) == ["large.bin"]
    assert (tree / "large.bin").stat().st_size == 102400


def test_what_git_could_not_bring_back_is_not_set_aside(tree):
    for name, words in {"new.txt": "not tracked", "out/pack": "not tracked", "nowhere": "not tracked"}.items():
        with pytest.raises(ConfigError, match=words):
            set_aside(tree, ["large.bin", name])
    (tree / "small.py").write_text("x = 2\n")
    with pytest.raises(ConfigError, match="was changed"):
        set_aside(tree, ["large.bin", "small.py"])
    assert (tree / "small.py").read_text() == "x = 2\n"
    assert (tree / "large.bin").stat().st_size == 102400


def test_what_was_written_meanwhile_is_not_overwritten(tree):
    set_aside(tree, ["large.bin"])
    (tree / "large.bin").write_bytes(b"better" * 100)
    with pytest.raises(ConfigError, match="written anew"):
        restore(tree)
    assert (tree / "large.bin").read_bytes() == b"better" * 100


def test_a_missing_file_comes_back_too(tree):
    set_aside(tree, ["large.bin"])
    (tree / "large.bin").unlink()
    restore(tree)
    assert git(tree, "status", "--porcelain") == "?? new.txt\n"
