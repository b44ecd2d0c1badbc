"""Pictures in bands that were stopped: what is gone on with, what is made anew, and what is tidied up."""

import errno
import os
from collections import deque
from pathlib import Path

import pytest

from adadiffsr_core.commands import cluster, outputs, resources, upscale
from adadiffsr_core.commands.interrupts import STOPPED_CODE
from adadiffsr_core.commands.kept import KeptBands
from adadiffsr_core.photo.spool import Spool
from adadiffsr_core.streaming import layout as layout_module
from tests.core.commands.in_bands import WORDS, after, make_noise, paint, read_report, stop, words
from tests.core.commands.upscaled import make_photo

pytestmark = pytest.mark.usefixtures("small_pieces")


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

    def stop(self, path, quality):
        raise KeyboardInterrupt

    write = Spool.write
    monkeypatch.setattr(Spool, "write", stop)
    assert run("in.png", "-o", "out.png", "--bands", "always")[0] == STOPPED_CODE
    monkeypatch.setattr(Spool, "write", write)
    assert run("in.png", "-o", "out.png", "--bands", "always", "--seed", "1")[0] == 0
    assert Path("out.png").read_bytes() == Path("other.png").read_bytes()
    assert not list(tmp_path.glob(".*"))  # nor what the first settings left


def test_one_run_at_a_time_makes_a_picture(run, monkeypatch):
    make_photo(Path("in.png"), side=60)
    run("in.png", "-o", "alone.png", "--bands", "always")
    second = []
    told, complain = [], upscale.complain
    monkeypatch.setattr(upscale, "complain", lambda *rest: (told.append(str(rest[0])), complain(*rest)))
    after(monkeypatch, 2, lambda: second.append(run(*WORDS)[0]))
    assert run(*WORDS)[0] == 0
    assert second == [2]
    assert told == ["out.png is being made by another run; wait for it, or name another output"]
    assert Path("out.png").read_bytes() == Path("alone.png").read_bytes()


@pytest.mark.parametrize("left", [b'{"first": 0, "last": 1, "rep', None])
def test_a_report_that_was_lost_costs_its_bands_and_no_more(run, monkeypatch, tmp_path, left):
    make_photo(Path("in.png"), side=60)
    run("in.png", "-o", "whole.png", "--report", "whole.json", "--bands", "always")
    after(monkeypatch, 5, stop)
    assert run(*WORDS)[0] == STOPPED_CODE
    (log,) = tmp_path.glob(".out.png.*.bands/reports.jsonl")
    if left is None:
        log.unlink()
    else:
        log.write_bytes(log.read_bytes() + left)
    assert run(*WORDS)[0] == 0
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert read_report("out") == read_report("whole")


@pytest.mark.parametrize("more", [(), ("--rule", "bounded", "--budget", "2")])
def test_a_run_that_goes_on_samples_the_same_parts(run, monkeypatch, tmp_path, more):
    monkeypatch.setattr(layout_module, "FULL_BATCHES", 3)
    make_noise("in.png", 1100, 12)
    words = ("--scale", "2", "--tile-batch", "1", *more)
    run("in.png", "-o", "whole.png", "--report", "whole.json", "--bands", "always", *words)
    parts, keep = [], KeptBands.keep

    def note(self, part, report):
        parts.append(part)
        keep(self, part, report)

    monkeypatch.setattr(KeptBands, "keep", note)
    after(monkeypatch, 85, stop)  # where only the third row of tiles and those below are needed
    assert run(*WORDS, *words)[0] == STOPPED_CODE
    before = parts.copy()
    code, lines, _ = run(*WORDS, *words)
    assert code == 0
    assert "of it done before" in " ".join(lines)
    assert {first % 3 for first, _ in parts} == {0}
    assert parts[len(before)] in before
    assert Path("out.png").read_bytes() == Path("whole.png").read_bytes()
    assert read_report("out") == read_report("whole")


def test_rows_stay_until_all_files_are_there(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)

    def fail(self):
        raise OSError(errno.EIO, "the disk is out of order")

    monkeypatch.setattr(outputs.Outputs, "_describe", fail)
    code, _, refused = run(*WORDS, "--overwrite")
    assert (code, "out of order" in refused[-1]) == (2, True)
    monkeypatch.undo()
    os.chdir(tmp_path)
    made = []
    monkeypatch.setattr(Spool, "add", lambda self, pixels: made.append(pixels))
    assert run(*WORDS)[0] == 0
    assert not made
    assert not list(tmp_path.glob(".*"))


def test_what_is_half_written_when_a_run_is_killed_goes_with_its_rows(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)
    monkeypatch.setattr(Spool, "write", lambda *rest: stop())
    assert run(*WORDS)[0] == STOPPED_CODE
    (left,) = tmp_path.glob(".out.png.*.bands")
    (left / ".0123456789abcdef.png").write_bytes(b"half of it")
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert run(*WORDS)[0] == 0
    assert not list(tmp_path.glob(".*"))


def test_what_was_finished_but_not_tidied_up_is_tidied_up_next_time(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)
    words = ("in.png", "-o", "out/", "--bands", "always")

    def clear(self):
        self.kept.close()
        stop()

    monkeypatch.setattr(outputs.Outputs, "clear", clear)
    assert run(*words)[0] == STOPPED_CODE
    assert list(tmp_path.glob("out/.*.bands"))
    assert run(*words)[:2] == (0, ["in.png: done before"])
    assert not list(tmp_path.glob("out/.*.bands"))


def test_rows_lie_beside_the_file_that_a_link_leads_to(run, monkeypatch, tmp_path):
    make_photo(Path("in.png"), side=30)
    Path("far").mkdir()
    Path("out.png").symlink_to("far/real.png")
    after(monkeypatch, 1, stop)
    assert run(*WORDS)[0] == STOPPED_CODE
    assert len(list(tmp_path.glob("far/.real.png.*.bands"))) == 1
    assert run(*WORDS)[0] == 0
    assert Path("out.png").is_symlink()
    assert [path.name for path in Path("far").iterdir()] == ["real.png"]


@pytest.mark.parametrize("where", ["add", "write"])
def test_a_full_disk_is_named_and_what_is_done_is_kept(run, monkeypatch, tmp_path, where):
    make_photo(Path("in.png"), side=60)
    original = Spool.add

    def fill(self, *rest):
        if where == "add" and self.rows < 32:
            return original(self, *rest)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Spool, "_encode" if where == "write" else "add", fill)
    code, _, refused = run(*WORDS)
    assert code == 2
    assert "out.png cannot be written: its disk is full" in refused[-1]
    assert list(tmp_path.glob(".out.png.*.bands/rows"))


def test_rows_that_are_there_need_no_room(run, monkeypatch):
    make_photo(Path("in.png"), side=60)
    monkeypatch.setattr(Spool, "write", lambda *rest: stop())
    assert run(*WORDS)[0] == STOPPED_CODE
    rows = 3 * 240 * 256
    monkeypatch.setattr(resources, "free_bytes", lambda path: (1, rows))
    code, _, refused = run("in.png", "-o", "other.png", "--bands", "always")
    assert (code, "other.png needs about" in refused[0]) == (2, True)
    assert run(*WORDS)[0] == STOPPED_CODE


@pytest.mark.parametrize("more", [(), ("--mask", "mask.png")])
def test_a_piece_that_fails_leaves_nothing_to_the_next_picture(run, monkeypatch, more):
    """Pieces that are under way at a cluster's workers when a picture is given up."""
    monkeypatch.setattr(layout_module, "FULL_BATCHES", 1)
    for number, name in enumerate(("a", "b")):
        make_noise(f"{name}.png", 900, 12, seed=number)
    paint("mask.png", (12, 900))
    words = ("--bands", "always", "--scale", "2", "--tile-batch", "1", *more)
    run("b.png", "-o", "alone.png", *words)

    class Workers(cluster.Workers):
        count = 2

        def __init__(self):
            self._pool = self
            self.waiting, self.model = deque(), None

        def run(self, units):
            self.waiting.extend(units)
            while self.waiting:
                unit = self.waiting.popleft()
                yield unit, unit.work(self.model)

        def add(self, units):
            self.waiting.extend(units)

        def fill(self, filling):
            self.model = filling.bands.model
            super().fill(filling)

    original = Spool.add_levels

    def fail(self, levels):
        if self.target.name == "a.png":
            raise OSError(errno.EIO, "the disk is out of order")
        original(self, levels)

    monkeypatch.setattr(upscale, "fill_here", Workers().fill)
    monkeypatch.setattr(Spool, "add_levels", fail)
    code, _, refused = run("a.png", "b.png", "-o", "out/", *words)
    assert (code, len(refused)) == (2, 1)
    assert Path("out/b.png").read_bytes() == Path("alone.png").read_bytes()
