"""What is written appears whole, through links, and never in the place of what is no ordinary file."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from adadiffsr_core.cli import main
from adadiffsr_core.data.arrays import Layout, open_arrays
from adadiffsr_core.data.dataset import split_photos
from adadiffsr_core.data.origin import read_note
from adadiffsr_core.errors import AdaDiffSRError, ConfigError
from adadiffsr_core.evaluation.measure import ResultStore
from adadiffsr_core.files import Lock, check_file_name, check_writable, fit_name, read_small_file, whole_file
from adadiffsr_core.training.recipe import read_recipe

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


def test_a_small_file_is_read_up_to_its_bound(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_small_file(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="it has more than"):
        read_small_file(tmp_path / "file", 4)


READERS = {
    "recipe": lambda path: read_recipe("ldm", path, {}, {}),
    "note of a cache": read_note,
    "results": ResultStore,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("odd", ["pipe", "/dev/zero", "folder", "holes"])
def test_what_is_no_small_file_is_refused_without_reading_it(tmp_path, read, odd):
    path = tmp_path / "odd.json"
    if odd == "pipe":
        os.mkfifo(path)
    elif odd == "folder":
        path.mkdir()
    elif odd == "holes":
        path.touch()
        os.truncate(path, 2**40)
    else:
        path.symlink_to(odd)
    with pytest.raises(AdaDiffSRError, match=r"odd\.json"):
        read(path)


def test_a_table_of_sources_is_bounded_too(tmp_path):
    (tmp_path / "SOURCES.tsv").write_text("crop\tphoto\n" + "a" * 200_000)
    with pytest.raises(AdaDiffSRError, match=r"SOURCES\.tsv cannot be read as a table: field larger"):
        split_photos([tmp_path / "a.png"], 0.5)
    (tmp_path / "SOURCES.tsv").write_bytes(
        "crop\tphoto\na\u2028b.png\t1\nc\udcff.png\t1".encode(errors="surrogateescape")
    )
    split_photos([tmp_path / "a.png"], 0.5)
    os.truncate(tmp_path / "SOURCES.tsv", 2**40)
    with pytest.raises(AdaDiffSRError, match="it has more than 64 MB"):
        split_photos([tmp_path / "a.png"], 0.5)


def test_folders_are_asked_beforehand(tmp_path):
    check_writable(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="does not exist; create it first"):
        check_writable(tmp_path / "none" / "new")
    if Path("/sys/kernel").is_dir():
        with pytest.raises(OSError, match="cannot be written to"):
            check_writable(Path("/sys/kernel/new"))


@pytest.fixture
def read_only(monkeypatch):
    """A disk that has become read-only, which refuses even to remove what is not there."""

    def refuse(path, *args, **more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("touch", "unlink"):
        monkeypatch.setattr(Path, name, refuse)


def test_a_read_only_disk_is_named_by_its_folder(tmp_path, read_only):
    with pytest.raises(OSError, match="cannot be written to") as raised:
        check_writable(tmp_path / "a.png")
    told = f"the folder {tmp_path} cannot be written to (Read-only file system); choose another output"
    assert (raised.value.errno, raised.value.strerror) == (errno.EROFS, told)
    assert raised.value.filename == str(tmp_path / "a.png")


def test_cleaning_up_hides_no_error(tmp_path, read_only):
    """The first one says what is wrong; that nothing can be removed any more only follows from it."""
    with pytest.raises(ValueError, match="first"), whole_file(tmp_path / "a.png"):
        raise ValueError("first")
    np.save(tmp_path / "bad.npy", np.zeros(3))
    with pytest.raises(ConfigError, match=r"bad\.npy has the shape"):
        open_arrays(tmp_path, {"good": Layout((1,)), "bad": Layout((2,))})
    for _ in range(2):
        lock = Lock(tmp_path / "lock")
        assert lock.is_held
        lock.release(remove=True)


def test_a_folder_that_keeps_what_is_in_it_is_refused(tmp_path, monkeypatch):
    """Where files can be made and not moved, results could not appear."""

    def refuse(path, *args, **more):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match=r"cannot be written to \(Operation not permitted\)"):
        check_writable(tmp_path / "a.png")


BAD_NAMES = [
    "con",
    "NUL.png",
    "com1.tar.gz",
    "a.",
    "a ",
    "a\0b",
    "a\nb",
    "\u202ea",
    "a\u061cb",
    "\ud800",
    "\udcff",
    "é" * 128,
]
GOOD_NAMES = ["a", "console.png", "a.b", ".hidden", "é" * 127, "図.png", "👩‍🔬.png", "nul-1.png"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_some_system_cannot_keep_are_refused_and_shown_escaped(name):
    with pytest.raises(ConfigError, match="cannot be a file's name") as raised:
        check_file_name(name)
    message = str(raised.value)
    assert message.encode()
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_other_names_are_taken(name):
    check_file_name(name)


def test_a_name_is_cut_only_if_it_must_be_and_is_no_others():
    assert fit_name("a" * 247, "-map.png") == "a" * 247 + "-map.png"
    stems = ["a" * 248, "a" * 249, "a" * 248 + "b", "é" * 124, "é" * 125, "\udcff" * 248, "\udcff" * 247 + "\udcfe"]
    names = [fit_name(stem, "-map.png") for stem in stems]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) <= 255 and name.endswith("-map.png") for name in names)
    assert names[3].startswith("é" * 110)
    assert names == [fit_name(stem, "-map.png") for stem in stems]


@pytest.mark.parametrize("option", ["-o", "--map", "--report"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_the_command_line_refuses_them_for_what_it_writes(tmp_path, capsys, option, name):
    given = {"-o": str(tmp_path / "a.png"), option: str(tmp_path / name)}
    assert main(["upscale", "in.png", *(word for pair in given.items() for word in pair)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be a file's name" in line
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_holds_a_lock(tmp_path):
    path = tmp_path / "folder" / "lock"
    first = Lock(path)
    assert (first.is_held, Lock(path).is_held) == (True, False)
    first.release()
    second = Lock(path)
    assert second.is_held
    second.release(remove=True)
    assert not path.exists()
