"""What was named once keeps its name, whoever joins its folder, and results are no photographs of the next run."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.commands.journal import NAME
from adadiffsr_core.commands.naming import Source, grant_wishes, make_wish
from tests.core.commands.upscaled import files_in, make_photo

WORDS = ("--scale", "1", "--uniform", "12", "--format", "png")


def read_all(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


@pytest.fixture
def again(run):
    """Runs a command as often as it is asked to; gives the files made by each run, which must all end well."""

    def call(*words, folder="out"):
        before = read_all(Path(folder)) if Path(folder).is_dir() else {}
        code, _, refused = run(*words)
        assert (code, refused) == (0, [])
        after = read_all(Path(folder))
        assert {name: after[name] for name in before} == before
        return sorted(after.keys() - before.keys())

    return call


@pytest.mark.parametrize("moved", [False, True])
def test_a_newcomer_takes_no_name_that_a_result_has(again, run, tmp_path, moved):
    make_photo(tmp_path / "in" / "b.jpg")
    words = (*WORDS, "--map", "out", "--report", "out/notes")
    assert again("in", "-o", "out", *words) == ["b-map.png", "b.png", "notes/b.json"]
    make_photo(tmp_path / "in" / "b.png", seed=1)
    make_photo(tmp_path / "in" / "b.gif", seed=2)
    if moved:
        Path("in").rename("there")
        Path("out").rename("big")
        words = tuple(word.replace("out", "big") for word in words)
    names = ("there", "-o", "big") if moved else ("in", "-o", "out")
    assert again(*names, *words, folder=names[2]) == [
        "b-2.png", "b.gif-map.png", "b.gif.png", "b.png-map.png", "notes/b.gif.json", "notes/b.png.json"
    ]  # fmt: skip
    assert run(*names, *words)[1] == [f"{names[0]}/b.{kind}: done before" for kind in ("gif", "jpg", "png")]


def test_a_name_stays_by_other_settings_too(again, run, tmp_path):
    make_photo(tmp_path / "in" / "b.jpg")
    again("in", "-o", "out", *WORDS)
    make_photo(tmp_path / "in" / "b.png", seed=1)
    again("in", "-o", "out", *WORDS)
    code, lines, refused = run("in", "-o", "out", *WORDS, "--seed", "3")
    assert (code, lines) == (2, [])
    assert [line.split(" is there already")[0] for line in refused] == ["in/b.jpg: out/b.png", "in/b.png: out/b-2.png"]
    assert run("in", "-o", "out", *WORDS, "--seed", "3", "--overwrite")[0] == 0
    assert files_in(tmp_path / "out") == ["b-2.png", "b.png"]


def test_a_name_stays_although_the_run_was_stopped(again, tmp_path):
    make_photo(tmp_path / "in" / "b.jpg")
    words = ("in", "-o", "out", *WORDS, "--map", "out")
    again(*words)
    journal = tmp_path / "out" / NAME
    journal.write_text(journal.read_text().splitlines()[0])  # killed before it could say that all is there
    make_photo(tmp_path / "in" / "b.png", seed=1)
    assert again(*words) == ["b-2.png", "b.png-map.png"]


@pytest.mark.parametrize(
    ("inputs", "out", "first"),
    [
        ("p", "p", ["b.png", "maps/b-map.png"]),
        ("p/*", "p", ["b.png", "maps/b-map.png"]),
        ("p/**/*.*", "p/out", ["b.png", "maps/b-map.png", "s/b.png", "maps/s/b-map.png"]),
    ],
)
def test_results_are_no_photographs_of_the_next_run(again, tmp_path, inputs, out, first):
    make_photo(tmp_path / "p" / "b.jpg")
    make_photo(tmp_path / "p" / "s" / "b.gif", seed=1)
    words = (inputs, "-o", out, *WORDS, "--map", f"{out}/maps")
    assert again(*words, folder=out) == sorted(first)
    assert again(*words, folder=out) == []
    Path("p/link.png").symlink_to(tmp_path / out / "b.png")
    assert again(*words, folder=out) == []


def test_a_result_that_is_named_by_itself_is_a_photograph(again, run, tmp_path):
    make_photo(tmp_path / "p" / "b.jpg")
    again("p", "-o", "p", *WORDS, folder="p")
    assert again("p/b.jpg", "p/b.png", "-o", "more", *WORDS, folder="more") == ["b.jpg.png", "b.png"]
    code, lines, refused = run("more", "more/*.png", "-o", "more", *WORDS)
    assert (code, lines, len(refused)) == (2, [], 2)
    assert all(f"{name} holds only results" in line for name, line in zip(("more", "more/*.png"), refused, strict=True))
    # As a photograph it is spared.
    (sentence,) = run("p/b.png", "p/b.jpg", "-o", "p", *WORDS)[2][:1]
    assert "p/b.png would be written over p/b.png" in sentence


NAMES = [
    f"{folder}{name}" for folder in ("", "x/", "y/") for name in ("a.png", "a.jpg", "a.gif.png", "a.gif", "a-2.png")
]


@settings(max_examples=300, deadline=None)
@given(st.permutations(NAMES), st.lists(st.integers(1, 6), max_size=8), st.sampled_from([".png", "-map.png", ".json"]))
def test_nobody_loses_a_name_to_a_newcomer(order, steps, ending):
    made = {}
    for end in [sum(steps[:count]) for count in range(1, len(steps) + 1)]:
        names = sorted(order[:end])
        wishes = [make_wish(Source(Path("in", name)), ending, Path("out"), Path("in").absolute()) for name in names]
        paths = grant_wishes(wishes, [made.get(name, []) for name in names])
        assert len(set(paths)) == len(names)
        for name, path in zip(names, paths, strict=True):
            assert made.setdefault(name, [path.absolute()]) == [path.absolute()]
