"""A full disk is one sentence, and costs neither the process nor what was there."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from adadiffsr_core import disk
from adadiffsr_core.data.arrays import Layout, check_caches, open_arrays
from adadiffsr_core.disk import takes_no_more_files
from adadiffsr_core.errors import ConfigError, DiskError
from adadiffsr_core.files import whole_file
from adadiffsr_core.training.loop.paging import page_out

CACHE = {"gt": Layout((16, 3, 64, 64), np.uint8), "sigma": Layout((16, 5), np.float32)}
needs_blocks = pytest.mark.skipif(not hasattr(os.stat_result, "st_blocks"), reason="the system counts no blocks")


def refuse(number):
    def allocate(*_):
        raise OSError(number, os.strerror(number))

    return allocate


@pytest.fixture(params=["asked", "unsupported", "missing"])
def system(request, monkeypatch):
    """What the system says when it is asked for room."""
    if request.param == "unsupported":
        monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP), raising=False)
    if request.param == "missing":
        monkeypatch.delattr(os, "posix_fallocate", raising=False)


def has_holes(path):
    stat = path.stat()
    return stat.st_blocks * 512 < stat.st_size


@needs_blocks
def test_an_array_has_its_room_before_it_is_filled(tmp_path, system):
    arrays = open_arrays(tmp_path / "cache", CACHE)
    assert {name: (array.shape, array.dtype.type) for name, array in arrays.items()} == {
        name: tuple(layout) for name, layout in CACHE.items()
    }
    assert not any(array.any() for array in arrays.values())
    assert not any(has_holes(tmp_path / "cache" / f"{name}.npy") for name in CACHE)
    sizes = {name: (tmp_path / "cache" / f"{name}.npy").stat().st_size for name in CACHE}
    assert sizes == {name: layout.nbytes for name, layout in CACHE.items()}


@needs_blocks
def test_holes_of_earlier_versions_are_filled_and_what_is_there_stays(tmp_path, system):
    path = tmp_path / "gt.npy"
    old = np.lib.format.open_memmap(path, "w+", np.uint8, CACHE["gt"].shape)
    old[7] = 7
    old.flush()
    expected = old.copy()
    assert has_holes(path)
    assert np.array_equal(open_arrays(tmp_path, {"gt": CACHE["gt"]})["gt"], expected)
    assert not has_holes(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_cache_without_room_leaves_nothing_half_made(tmp_path, monkeypatch, number):
    allocate = os.posix_fallocate
    monkeypatch.setattr(os, "posix_fallocate", lambda *to: allocate(*to) if to[2] < 1000 else refuse(number)())
    with pytest.raises(DiskError, match=r"gt.npy needs 197 kB of disk space \(.*\), and .* are free; make room"):
        open_arrays(tmp_path / "cache", {"sigma": CACHE["sigma"], "gt": CACHE["gt"]})
    assert list((tmp_path / "cache").iterdir()) == []


def test_too_many_walks_are_refused_beforehand(tmp_path, monkeypatch):
    caches = {tmp_path / "new" / "walks": CACHE, tmp_path / "new" / "held_out": CACHE}
    needed = 2 * sum(layout.nbytes for layout in CACHE.values())
    monkeypatch.setattr(disk, "free_on_disk", lambda folder: needed)
    check_caches(caches)
    monkeypatch.setattr(disk, "free_on_disk", lambda folder: needed - 1)
    with pytest.raises(DiskError, match="new needs 394 kB of disk space, and 394 kB are free; make room or"):
        check_caches(caches)
    assert list(tmp_path.iterdir()) == []
    open_arrays(tmp_path / "new" / "walks", CACHE)
    check_caches(caches)  # what is there is not needed again


def test_a_cache_of_another_shape_costs_the_others_nothing(tmp_path):
    open_arrays(tmp_path, {"gt": CACHE["gt"]})
    with pytest.raises(ConfigError, match="has the shape"):
        open_arrays(tmp_path, {"sigma": CACHE["sigma"], "gt": Layout((1, 2), np.uint8)})
    assert [path.name for path in tmp_path.iterdir()] == ["gt.npy"]


def test_weights_are_not_paged_out_to_a_full_disk(tmp_path, monkeypatch):
    net = torch.nn.Linear(100, 100).requires_grad_(False)
    before = net.weight.data_ptr()
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC), raising=False)
    with pytest.raises(DiskError, match="needs 40 kB of disk space"):
        page_out(net, tmp_path)
    assert net.weight.data_ptr() == before


@pytest.fixture(params=["size=1m"])
def tiny_disk(tmp_path, request):
    """A file system of 1 MB, or as it is asked for."""
    place = tmp_path / "tiny"
    place.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", place], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs a right to mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


WRITES = {
    "values": lambda path: path.write_bytes(bytes(2 * 2**20)),
    "weights": lambda path: save_file({"a": torch.zeros(2**19)}, path),  # has an error of its own
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_file_that_does_not_fit_is_one_sentence_and_the_old_one_stays(tiny_disk, write):
    (tiny_disk / "file").write_text("old")
    with (
        pytest.raises(DiskError, match=r"file cannot be written: its disk is full, .* are free; make room"),
        whole_file(tiny_disk / "file") as partial,
    ):
        write(partial)
    assert [(path.name, path.read_text()) for path in tiny_disk.iterdir()] == [("file", "old")]


@pytest.mark.parametrize("tiny_disk", ["size=1m,nr_inodes=3"], indirect=True)  # the folder, and two files
def test_a_disk_that_takes_no_more_files_is_not_said_to_be_full(tiny_disk):
    for name in ("one", "two"):
        (tiny_disk / name).touch()
    with (
        pytest.raises(DiskError, match="three cannot be written: its disk has room for no more files; remove some"),
        whole_file(tiny_disk / "three") as partial,
    ):
        partial.touch()


def test_a_disk_that_counts_no_files_takes_more(monkeypatch, tmp_path):
    told = os.statvfs(tmp_path)
    for files, free, expected in ((0, 0, False), (9, 0, True), (9, 1, False)):
        said = SimpleNamespace(**{name: getattr(told, name) for name in dir(told) if name.startswith("f_")})
        said.f_files, said.f_favail = files, free
        monkeypatch.setattr(os, "statvfs", lambda folder, said=said: said)
        assert takes_no_more_files(tmp_path) is expected


FILL = """
import sys
from types import SimpleNamespace
from pathlib import Path
import numpy as np
from adadiffsr_core import disk
from adadiffsr_core.errors import DiskError
from adadiffsr_core.data.arrays import Layout, open_arrays
if sys.argv[2] == "unforeseen":
    disk.check_room = lambda *_: None
try:
    for array in open_arrays(Path(sys.argv[1]), {"gt": Layout((2**21,), np.uint8)}).values():
        array[:] = 1
except DiskError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("way", ["foreseen", "unforeseen"])
def test_a_full_disk_does_not_kill_the_process(tiny_disk, way):
    old = np.lib.format.open_memmap(tiny_disk / "gt.npy", "w+", np.uint8, (2**21,))  # holes, as earlier versions left
    old[:5] = 5
    ended = subprocess.run(
        [sys.executable, "-c", FILL, tiny_disk, way], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 1, ended
    assert "of disk space" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert old[:6].tolist() == [5, 5, 5, 5, 5, 0]
