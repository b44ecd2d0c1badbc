"""What is written appears whole, through links, and never in the place of what is no ordinary file."""

import os
from pathlib import Path

import pytest

from adadiffsr_core.files import check_writable, whole_file

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links and pipes")


def write(path, text="new"):
    with whole_file(path) as partial:
        partial.write_text(text)


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    (tmp_path / "link").symlink_to("far/file")
    (tmp_path / "dangling").symlink_to("far/other")
    write(tmp_path / "link")
    write(tmp_path / "dangling")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "dangling").is_symlink()
    assert {path.name: path.read_text() for path in (tmp_path / "far").iterdir()} == {"file": "new", "other": "new"}


def make_pipe(path):
    os.mkfifo(path)


def make_device(path):
    path.symlink_to("/dev/null")


def make_circle(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [make_pipe, make_device, make_circle, Path.mkdir])
def test_what_is_no_ordinary_file_is_refused_and_stays(tmp_path, make):
    path = tmp_path / "odd"
    make(path)
    before = path.lstat()
    for attempt in (write, check_writable):
        with pytest.raises(OSError, match=r"folder|no ordinary file|circle") as raised:
            attempt(path)
        assert raised.value.filename == str(path)
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert [entry.name for entry in tmp_path.iterdir()] == ["odd"]
    assert not Path("/dev/null").is_file()


def test_folders_are_asked_beforehand(tmp_path):
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="does not exist; create it first"):
        check_writable(tmp_path / "none" / "new")
    if Path("/sys/kernel").is_dir():
        with pytest.raises(OSError, match="cannot be written to"):
            check_writable(Path("/sys/kernel/new"))
