"""What is changed while a folder is worked on is not made by what it was before, nor written down as that."""

import os
from pathlib import Path

import pytest

from adadiffsr_core.commands import making
from adadiffsr_core.commands.cluster import PhotoUnit
from adadiffsr_core.commands.masks import open_mask
from adadiffsr_core.commands.plan import PhotoJob, Targets
from adadiffsr_core.errors import ImageError
from adadiffsr_core.files import look_at
from tests.core.commands.upscaled import files_in, make_photo

WORDS = ("in", "-o", "out", "--scale", "1", "--uniform", "12")
CHANGED = "in/b.png was changed while it was worked on; start again"


@pytest.fixture
def meanwhile(tmp_path, monkeypatch):
    """Two photographs; what is given is done while the first is made."""
    for number, name in enumerate("ab"):
        make_photo(tmp_path / "in" / f"{name}.png", seed=number)
    original = making.upscale

    def set_act(act):
        acts = [act]

        def upscale(*args, **more):
            if acts:
                acts.pop()()
            return original(*args, **more)

        monkeypatch.setattr(making, "upscale", upscale)

    return set_act


@pytest.mark.parametrize("side", [20, 12], ids=["as large", "smaller"])
def test_another_photograph_by_the_same_name_is_refused_and_made_by_the_next_run(run, meanwhile, tmp_path, side):
    path = tmp_path / "in" / "b.png"
    meanwhile(lambda: make_photo(path, side=side, seed=5))
    code, _, refused = run(*WORDS)
    assert (code, refused, files_in(Path("out"))) == (2, [CHANGED], ["a.png"])
    code, lines, refused = run(*WORDS)
    assert (code, len(lines), refused) == (0, 2, [])
    run(path, "-o", "alone.png", *WORDS[3:])
    assert Path("out/b.png").read_bytes() == Path("alone.png").read_bytes()


def test_what_was_put_back_is_not_taken_for_done(run, meanwhile, tmp_path):
    path = tmp_path / "in" / "b.png"
    before = path.read_bytes()
    meanwhile(lambda: make_photo(path, seed=5))
    run(*WORDS)
    path.write_bytes(before)
    _, lines, _ = run(*WORDS)
    assert lines[0] == "in/a.png: done before"
    assert "evaluations spent" in lines[1]


@pytest.mark.parametrize(
    ("act", "told"),
    [(Path.unlink, "in/b.png"), (lambda path: os.utime(path, (0, 0)), None)],
    ids=["gone", "touched"],
)
def test_what_is_gone_is_named_and_what_was_touched_is_made(run, meanwhile, tmp_path, act, told):
    meanwhile(lambda: act(tmp_path / "in" / "b.png"))
    code, _, refused = run(*WORDS)
    assert (code, len(refused)) == ((0, 0) if told is None else (2, 1))
    assert all(line.startswith(told) for line in refused)


def test_bytes_that_travel_are_those_that_were_planned_with(tmp_path):
    path = make_photo(tmp_path / "a.png")
    job = PhotoJob(
        source=path, pages=(), motion=None, targets=Targets(result=tmp_path / "out.png"), state=look_at(path)
    )
    assert PhotoUnit(job, 1).load().encoded == path.read_bytes()
    make_photo(path, seed=1)
    with pytest.raises(ImageError, match="was changed while it was worked on; start again"):
        PhotoUnit(job, 1).load()


def test_a_mask_is_the_one_that_was_looked_through(tmp_path):
    path = make_photo(tmp_path / "mask.png", "L")
    mask = open_mask(path)
    mask.read_whole()
    make_photo(path, "L", seed=1)
    with pytest.raises(ImageError, match="was changed while it was read; start again"):
        mask.read_whole()
