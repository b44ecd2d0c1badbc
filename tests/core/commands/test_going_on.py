"""Folders: what is finished is passed over, what was begun is made again, and nothing of others is replaced."""

import json
import os
from pathlib import Path

import pytest

from adadiffsr_core.commands import making
from adadiffsr_core.commands.journal import NAME
from tests.core.commands.upscaled import files_in, make_photo

WORDS = ("in", "-o", "out", "--scale", "1", "--uniform", "12")


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "in" / "trip").mkdir(parents=True)
    make_photo(tmp_path / "in" / "a.png")
    make_photo(tmp_path / "in" / "b.png", side=10)
    make_photo(tmp_path / "in" / "trip" / "a.png")
    return tmp_path / "in"


@pytest.fixture
def made(monkeypatch):
    """Sizes of the pictures that are worked on."""
    sizes, original = [], making.upscale

    def counted(model, image, *args, **more):
        sizes.append(tuple(image.shape[-2:]))
        return original(model, image, *args, **more)

    monkeypatch.setattr(making, "upscale", counted)
    return sizes


def read_all(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != NAME}


def test_the_same_command_again_makes_nothing(run, photos, made):
    assert run(*WORDS, "--map", "out", "--report", "out")[0] == 0
    before, count = read_all(Path("out")), len(made)
    code, lines, refused = run(*WORDS, "--map", "out", "--report", "out")
    assert (code, refused, len(made)) == (0, [], count)
    assert lines == ["in/a.png: done before", "in/b.png: done before"]
    assert read_all(Path("out")) == before
    Path("out").rename("elsewhere")  # journal and all
    assert run("in", "-o", "elsewhere", *WORDS[3:], "--map", "elsewhere", "--report", "elsewhere")[0] == 0
    assert len(made) == count


def test_new_and_changed_photographs_are_made_and_only_these(run, photos, made):
    run(*WORDS)
    make_photo(photos / "c.png", side=14)
    assert run(*WORDS)[0] == 0
    assert made[2:] == [(14, 18)]
    assert files_in(Path("out")) == ["a.png", "b.png", "c.png"]


def test_a_file_that_is_gone_or_cut_is_made_again(run, photos, made):
    run(*WORDS, "--map", "out")
    before = read_all(Path("out"))
    Path("out/a-map.png").unlink()
    Path("out/b.png").write_bytes(before["b.png"][:-20])
    assert run(*WORDS, "--map", "out")[0] == 0
    assert len(made) == 4
    assert read_all(Path("out")) == before


@pytest.mark.parametrize("tail", ["", '{"result": "a.png", "finger'])
def test_what_was_begun_is_made_again_and_a_cut_line_hurts_nobody(run, photos, made, tail):
    run(*WORDS)
    before, journal = read_all(Path("out")), Path("out") / NAME
    first, *_ = journal.read_text().splitlines()
    assert "bytes" not in json.loads(first)
    journal.write_text(f"{first}\n{tail}")
    Path("out/b.png").unlink()  # of which nothing was written down
    assert run(*WORDS)[0] == 0
    assert len(made) == 4
    assert read_all(Path("out")) == before
    assert run(*WORDS)[1] == ["in/a.png: done before", "in/b.png: done before"]


BROKEN = [
    b"\xff\xfe\x00garbage\n",
    b"\x00" * 100 + b"\n",
    b'{"result": ["a"], "fingerprint": "x"}\n',
    b'{"result": "a.png", "fingerprint": {}}\n',
    b'{"result": "a.png", "fingerprint": "x", "bytes": {"a.png": "many"}}\n',
    b'[]\n3\nnull\n"a"\n',
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_broken_line_hides_no_other(run, photos, made, line):
    run(*WORDS)
    journal = Path("out") / NAME
    journal.write_bytes(line + journal.read_bytes() + line[:-1])
    assert run(*WORDS) == (0, ["in/a.png: done before", "in/b.png: done before"], [])
    make_photo(photos / "c.png")
    assert run(*WORDS)[0] == 0
    assert run(*WORDS)[1] == [f"in/{name}.png: done before" for name in "abc"]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "protected"])
def test_a_journal_that_cannot_be_written_is_refused_before_the_work(run, photos, made, monkeypatch, kind):
    Path("out").mkdir()
    journal = Path("out") / NAME
    if kind == "folder":
        journal.mkdir()
    elif kind == "pipe":
        os.mkfifo(journal)
    elif kind == "device":
        journal.symlink_to("/dev/null")
    else:
        journal.touch()
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != NAME)
    code, _, refused = run(*WORDS)
    assert (code, len(refused), made) == (2, 1, [])
    assert NAME in refused[0]
    assert files_in(Path("out")) == []


def test_nothing_of_others_is_replaced_unless_asked_for(run, photos, made):
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"somebody's")
    code, lines, refused = run(*WORDS)
    assert (code, len(lines), len(refused)) == (2, 1, 1)
    assert "out/a.png is there already" in refused[0]
    assert "--overwrite" in refused[0]
    assert Path("out/a.png").read_bytes() == b"somebody's"
    assert run(*WORDS, "--overwrite")[0] == 0
    assert Path("out/a.png").read_bytes() != b"somebody's"


def test_other_settings_are_another_run(run, photos, made):
    run(*WORDS)
    for words in (("--seed", "3"), ("--format", "jpg"), ("--report", "out")):
        before, count = len(made), len(read_all(Path("out")))
        code, _, refused = run(*WORDS, *words)
        if words[0] == "--format":  # other files, beside the first
            assert (code, len(read_all(Path("out")))) == (0, count + 2)
        else:
            assert (code, len(refused), len(made)) == (2, 2, before)
    assert run(*WORDS, "--seed", "3", "--overwrite")[0] == 0
    assert run(*WORDS, "--seed", "3")[1] == ["in/a.png: done before", "in/b.png: done before"]


def test_a_file_that_the_user_names_is_asked_for(run, photos, made):
    for words in ((), (), ("--resume",), ("--resume",)):
        assert run("in/a.png", "-o", "big.png", *WORDS[3:], *words)[0] == 0
    assert len(made) == 3  # the last was known


@pytest.mark.parametrize("name", ["a.png", "a-map.png", "a.json"])
def test_what_somebody_changed_since_is_not_lost(run, photos, made, name):
    words = (*WORDS, "--map", "out", "--report", "out")
    run(*words)
    changed = Path("out") / name
    if changed.suffix == ".png":
        make_photo(changed, side=31)
    else:
        changed.write_text('{"mine": 1}')
    theirs, count = changed.read_bytes(), len(made)
    code, lines, refused = run(*words)
    assert (code, lines, len(made)) == (2, ["in/b.png: done before"], count)
    assert f"out/{name} was changed since it was made" in refused[0]
    assert "--overwrite" in refused[0]
    assert changed.read_bytes() == theirs
    assert run(*words, "--overwrite")[0] == 0
    assert changed.read_bytes() != theirs


def test_no_option_that_would_not_help_is_proposed(run, photos, made):
    code, _, refused = run("in", "-o", "in", *WORDS[3:])
    assert (code, len(made)) == (2, 0)
    assert refused == [f"in/{name}.png would be written over in/{name}.png; choose another output" for name in "ab"]


def test_sub_folders_are_kept_and_results_not_made_again(run, photos, made):
    words = ("in", "-o", "in/big", *WORDS[3:], "--recursive", "--format", "webp")
    assert run(*words)[0] == 0
    assert files_in(Path("in/big")) == ["a.webp", "b.webp", "trip/a.webp"]
    (photos / ".hidden").mkdir()
    make_photo(photos / ".hidden" / "x.png")
    assert run(*words)[1] == ["in/a.png: done before", "in/b.png: done before", "in/trip/a.png: done before"]
    assert len(made) == 3
