"""Several photographs by one command: where each goes, who spares whom, and the bar for all."""

import pytest

from adadiffsr_core.commands import making
from adadiffsr_core.commands.terminal import ProgressBar
from adadiffsr_core.errors import DenoiserError
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.sampling.turn import Progress
from tests.core.commands.upscaled import files_in, make_photo


def test_folders_patterns_and_files_go_into_a_folder(run, tmp_path):
    make_photo(tmp_path / "in" / "a.png")
    make_photo(tmp_path / "in" / "b.jpg", seed=1)
    make_photo(tmp_path / "in" / "deeper" / "no.png")
    make_photo(tmp_path / "in" / ".hidden.png")
    make_photo(tmp_path / "more" / "c.gif", seed=2)
    make_photo(tmp_path / "d[1].png", seed=3)
    words = ("in", "more/*.gif", "d[1].png", "in/a.png", "--scale", "1", "--report", "out", "--map", "maps")
    code, lines, refused = run(*words, "-o", "out/new")
    assert (code, refused) == (0, [])
    assert [line.split(":")[0] for line in lines] == ["in/a.png", "in/b.jpg", "more/c.gif", "d[1].png"]
    assert files_in(tmp_path / "out") == [
        "a.json", "b.json", "c.json", "d[1].json", "new/a.png", "new/b.jpg", "new/c.png", "new/d[1].png"
    ]  # fmt: skip
    assert files_in(tmp_path / "maps") == ["a-map.png", "b-map.png", "c-map.png", "d[1]-map.png"]


@pytest.mark.parametrize(
    "words", [["-o", "out.png"], ["-o", "out", "--map", "map.PNG"], ["-o", "out", "--report", "r.json"]], ids=" ".join
)
def test_the_name_of_a_file_is_no_folder_for_several(run, tmp_path, words):
    """A folder `out.png` is what nobody means; who means it ends it in a slash, or has made it."""
    for name in ("a", "b"):
        make_photo(tmp_path / f"{name}.png")
    code, lines, refused = run("a.png", "b.png", *words, "--scale", "1")
    assert (code, lines, len(refused)) == (2, [], 1)
    assert f"{words[-1]} is the name of a file" in refused[0]
    assert not (tmp_path / words[-1]).exists()
    (tmp_path / words[-1]).mkdir()
    assert run("a.png", "b.png", *words, "--scale", "1")[0] == 0


def test_good_photos_are_done_although_others_are_bad(run, tmp_path):
    make_photo(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    code, lines, refused = run("missing.png", "good.png", "empty.png", "none*.png", "-o", "out", "--scale", "1")
    assert code == 2
    assert [line.split(":")[0] for line in lines] == ["good.png"]
    assert [next(word for word in line.split() if "png" in word) for line in refused] == [
        "none*.png", "missing.png", "empty.png"
    ]  # fmt: skip
    assert files_in(tmp_path / "out") == ["good.png"]


def test_a_photo_that_fails_on_the_way_spares_the_others(run, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        make_photo(tmp_path / f"{name}.png", seed=ord(name))
    seen = []

    def fail_second(*args, **more):
        seen.append(1)
        if len(seen) == 2:
            raise DenoiserError("the network returned NaN for tile 0")
        return upscale(*args, **more)

    monkeypatch.setattr(making, "upscale", fail_second)
    code, lines, refused = run("a.png", "b.png", "c.png", "-o", "out", "--scale", "1")
    assert (code, len(lines)) == (2, 2)
    assert refused == ["b.png: the network returned NaN for tile 0"]
    assert files_in(tmp_path / "out") == ["a.png", "c.png"]


def test_two_photos_of_one_name_do_not_overwrite_each_other(run, tmp_path):
    for name in ("x/a.png", "y/a.png", "z/a.gif"):
        make_photo(tmp_path / name)
    code, lines, refused = run("x/a.png", "y/a.png", "z/a.gif", "-o", "out", "--scale", "1")
    assert (code, len(lines), refused) == (0, 3, [])
    assert files_in(tmp_path / "out") == ["a.gif.png", "x/a.png", "y/a.png"]


def test_a_name_as_long_as_names_can_be_costs_no_file(run, tmp_path):
    """What is derived from it is cut and stays apart, from others and from run to run."""
    names = ["a" * 251 + ".png", "a" * 250 + "b.png", "a" * 250 + ".jpeg", "é" * 125 + ".gif"]
    for seed, name in enumerate(names):
        make_photo(tmp_path / "in" / name, seed=seed)
    words = ("in", "-o", "out", "--map", "out", "--compare", "out", "--report", "out", "--format", "webp")
    code, lines, refused = run(*words, "--scale", "1")
    assert (code, len(lines), refused) == (0, 4, [])
    made = files_in(tmp_path / "out")
    assert len(made) == 16
    for ending in (".webp", "-map.png", "-compare.png", ".json"):
        assert sum(name.endswith(ending) and name[0] in "aé" for name in made) == 4
    again = run(*words, "--scale", "1")
    assert [line.split(": ")[1] for line in again[1]] == ["done before"] * 4
    assert max(map(len, [*lines, *again[1]])) < 280


def test_a_folder_is_never_written_over_itself(run, tmp_path):
    make_photo(tmp_path / "in" / "a.png")
    before = (tmp_path / "in" / "a.png").read_bytes()
    code, _, refused = run("in", "-o", "in")
    assert (code, len(refused)) == (2, 1)
    assert (tmp_path / "in" / "a.png").read_bytes() == before


def test_ctrl_c_leaves_nothing_half_written(run, tmp_path, monkeypatch):
    for name in ("a", "b"):
        make_photo(tmp_path / f"{name}.png")
    turns = []

    def interrupt(self, progress):
        turns.append(progress)
        if len(turns) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(ProgressBar, "update", interrupt)
    code, lines, refused = run("a.png", "b.png", "-o", "out", "--scale", "1", "--uniform", "1", "--report", "out")
    assert (code, len(lines), len(refused)) == (130, 1, 1)
    assert "stopped" in refused[0]
    assert files_in(tmp_path / "out") == ["a.json", "a.png"]


def test_the_bar_ends_at_what_was_spent(capsys):
    bar = ProgressBar([4, 2, 2], each=10)
    assert bar.bar.total == 80
    bar.begin(4)
    bar.update(Progress(nfe=4, expected_nfe=20))
    assert (bar.bar.n, bar.bar.total) == (4, 40)  # 5 each, here and for the four tiles that wait
    bar.update(Progress(nfe=16, expected_nfe=16))
    bar.end()
    assert (bar.bar.n, bar.bar.total) == (16, 32)
    bar.begin(2)
    bar.update(Progress(nfe=2, expected_nfe=14))
    assert (bar.bar.n, bar.bar.total) == (18, 40)
    bar.end()  # given up
    bar.begin(2)
    bar.update(Progress(nfe=6, expected_nfe=6))
    bar.end()
    assert (bar.bar.n, bar.bar.total) == (24, 24)
    bar.close()
    assert "24/24" in capsys.readouterr().err
