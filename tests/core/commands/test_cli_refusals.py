"""What `adadiffsr upscale` refuses, in one sentence and without a trace: files, options, paths, weights."""

import os
from argparse import ArgumentTypeError

import pytest
import torch

from adadiffsr_core.cli import build_parser, main
from adadiffsr_core.models.checkpoint import Checkpoint, save_checkpoint
from tests.core.commands.upscaled import files_in, make_photo

BAD = {
    "missing": (["no.png", "-o", "o.png"], "no.png cannot be read"),
    "empty": (["empty.png", "-o", "o.png"], "empty"),
    "truncated": (["cut.png", "-o", "o.png"], "cut.png is damaged"),
    "no image": (["text.png", "-o", "o.png"], "text.png is damaged, or is no"),
    "empty folder": (["void", "-o", "o"], "void holds no picture"),
    "no match": (["q*.png", "-o", "o"], "no file matches q*.png"),
    "scale 0": (["photo.png", "-o", "o.png", "--scale", "0"], "no factor above 0"),
    "scale negative": (["photo.png", "-o", "o.png", "--scale", "-2"], "no factor above 0"),
    "scale nan": (["photo.png", "-o", "o.png", "--scale", "nan"], "no factor above 0"),
    "scale infinite": (["photo.png", "-o", "o.png", "--scale", "1e400"], "no factor above 0"),
    "scale tiny": (["photo.png", "-o", "o.png", "--scale", "0.001"], "0 x 0 px"),
    "too large": (["photo.png", "-o", "o.png", "--scale", "16384"], "262,144 px a side"),
    "too large for jpeg": (["photo.png", "-o", "o.jpg", "--size", "70000x10"], "cannot hold 70000 x 10"),
    "size nonsense": (["photo.png", "-o", "o.png", "--size", "10x"], "neither a size"),
    "size zero": (["photo.png", "-o", "o.png", "--size", "0x10"], "0 x 10 px"),
    "size huge": (["photo.png", "-o", "o.png", "--size", "999999999"], "262,144 px a side"),
    "size and scale": (["photo.png", "-o", "o.png", "--size", "9", "--scale", "2"], "not allowed with"),
    "mask missing": (["photo.png", "-o", "o.png", "--mask", "m.png"], "m.png cannot be read"),
    "mask no image": (["photo.png", "-o", "o.png", "--mask", "text.png"], "text.png is damaged"),
    "preset": (["photo.png", "-o", "o.png", "--preset", "best"], "invalid choice: 'best'"),
    "solver": (["photo.png", "-o", "o.png", "--solver", "x"], "invalid choice: 'x'"),
    "suffix": (["photo.png", "-o", "o.xyz"], "names no format"),
    "no suffix": (["photo.png", "-o", "o"], "names no format"),
    "folder missing": (["photo.png", "-o", "nowhere/o.png"], "the folder nowhere does not exist"),
    "map folder missing": (["photo.png", "-o", "o.png", "--map", "nowhere/m.png"], "the folder nowhere"),
    "report folder missing": (["photo.png", "-o", "o.png", "--report", "nowhere/r.json"], "nowhere/r.json"),
    "itself": (["photo.png", "-o", "photo.png"], "written over photo.png"),
    "itself by another name": (["photo.png", "-o", "./void/../photo.png"], "written over photo.png"),
    "over the weights": (["photo.png", "-o", "o.png", "--report", "WEIGHTS"], "written over"),
    "over the mask": (["photo.png", "-o", "o.png", "--mask", "mask.png", "--map", "mask.png"], "over mask.png"),
    "twice": (["photo.png", "-o", "o.png", "--map", "o.png"], "o.png would be written for photo.png and again"),
    "transparent jpeg": (["clear.png", "-o", "o.jpg"], "cannot hold this photo's transparency"),
    "device": (["photo.png", "-o", "o.png", "--device", "cuda:99"], "'cuda:99' cannot be used"),
    "device nonsense": (["photo.png", "-o", "o.png", "--device", "toaster"], "'toaster' cannot be used"),
    "device meta": (["photo.png", "-o", "o.png", "--device", "meta"], "'meta' cannot be used"),
    "device empty": (["photo.png", "-o", "o.png", "--device", ""], "device '' cannot be used"),
    "device of a package": (["photo.png", "-o", "o.png", "--device", "hpu"], "'hpu' cannot be used"),
    "device private": (["photo.png", "-o", "o.png", "--device", "privateuseone"], "'privateuseone' cannot be used"),
    "dtype": (["photo.png", "-o", "o.png", "--dtype", "int8"], "invalid choice: 'int8'"),
    "intervals": (["photo.png", "-o", "o.png", "--intervals", "1,b"], "must be whole numbers and commas"),
    "intervals falling": (["photo.png", "-o", "o.png", "--intervals", "3,1"], "smallest first"),
    "uniform and intervals": (["photo.png", "-o", "o.png", "--uniform", "2", "--intervals", "1"], "not allowed with"),
    "uniform 0": (["photo.png", "-o", "o.png", "--uniform", "0"], "--uniform must be from 1 to 1000"),
    "uniform huge": (["photo.png", "-o", "o.png", "--uniform", str(2**63)], "--uniform must be from 1 to 1000"),
    "intervals huge": (["photo.png", "-o", "o.png", "--intervals", f"1,{2**63}"], "intervals[1] must be at most 1000"),
    "threshold": (["photo.png", "-o", "o.png", "--gain-threshold", "-1"], "must not be negative"),
    "budget 0": (["photo.png", "-o", "o.png", "--budget", "0"], "give 2 or more"),
    "budget nonsense": (["photo.png", "-o", "o.png", "--budget", "few"], "give 2 or more"),
    "budget 1": (["photo.png", "-o", "o.png", "--budget", "1"], "budget must be at least 2, the evaluations"),
    "budget tiny": (["photo.png", "-o", "o.png", "--budget", "0.0001"], "at least 2, the evaluations"),
    "likeness -inf": (["photo.png", "-o", "o.png", "--likeness", "-inf"], "likeness must be"),
    "likeness below 0": (["photo.png", "-o", "o.png", "--likeness", "-1e5"], "likeness must be"),
    "denoise": (["photo.png", "-o", "o.png", "--denoise", "1.5"], "denoise must be from 0.001 to 1"),
    "denoise tiny": (["photo.png", "-o", "o.png", "--denoise", "1e-300"], "must be from 0.001 to 1, got 1e-300"),
    "pfj strength": (["photo.png", "-o", "o.png", "--pfj-strength", "-1"], "pfj_strength must be from 0 to 100"),
    "no name": (["a\ud800.png", "-o", "o.png"], "is a name that no file can have"),
    "no name of a mask": (["photo.png", "-o", "o.png", "--mask", "m\0.png"], "is a name that no file can have"),
    "tile size": (["photo.png", "-o", "o.png", "--tile-size", "100"], "tile_size 100 px is not a multiple of 16"),
    "tile size below 0": (["photo.png", "-o", "o.png", "--tile-size", "-64"], "tile_size must be from 0 to 65536"),
    "overlap": (["photo.png", "-o", "o.png", "--tile-size", "64"], "overlap 64 px leaves no room in tile_size 64 px"),
    "tile batch": (["photo.png", "-o", "o.png", "--tile-batch", "0"], "tile_batch must be from 1 to 65536"),
    "seed": (["photo.png", "-o", "o.png", "--seed", "-1"], "seed must be from 0 to 18446744073709551615"),
    "seed huge": (["photo.png", "-o", "o.png", "--seed", str(2**64)], "seed must be from 0 to 18446744073709551615"),
    "two kinds": (["photo.png", "-o", "o.png", "--format", "jpg"], "o.png says another kind"),
    "quality": (["photo.png", "-o", "o.png", "--quality", "101"], "--quality goes from 1 to 100"),
    "threads": (["photo.png", "-o", "o.png", "--threads", "0"], "--threads must be from 1 to 1024"),
    "unknown option": (["photo.png", "-o", "o.png", "--frobnicate"], "unrecognized arguments: --frobnicate"),
    "no output": (["photo.png"], "required: -o/--output"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence(run, tmp_path, weights, case):
    make_photo(tmp_path / "photo.png")
    make_photo(tmp_path / "mask.png", "L")
    make_photo(tmp_path / "clear.png", "RGBA")
    (tmp_path / "cut.png").write_bytes((tmp_path / "photo.png").read_bytes()[:200])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("I am no picture")
    (tmp_path / "void").mkdir()
    before = {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)}
    words, sentence = BAD[case]
    code, lines, refused = run(*(str(weights) if word == "WEIGHTS" else word for word in words))
    assert (code, lines, len(refused)) == (2, [], 1)
    assert sentence in refused[0]
    assert {name: (tmp_path / name).read_bytes() for name in files_in(tmp_path)} == before


def parsers(parser=None):
    """Every parser of the command line that takes options."""
    parser = parser or build_parser()
    below = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    subparsers = [each for choices in below for each in choices.values() if hasattr(each, "parse_args")]
    return [each for sub in subparsers for each in parsers(sub)] or [parser]


PATHS = [
    (parser.prog, action)
    for parser in parsers()
    for action in parser._actions
    if action.metavar in ("INPUT", "OUT", "MASK", "PNG", "JSON", "FILE", "FOLDER", "DATA")
]


@pytest.mark.parametrize(("command", "action"), PATHS, ids=lambda part: getattr(part, "dest", part))
def test_an_empty_path_is_refused_wherever_one_is_taken(command, action):
    """It is what an unset variable becomes, and would mean the whole folder that one is in."""
    assert len(PATHS) > 25
    with pytest.raises(ArgumentTypeError, match="a path is empty"):
        action.type("")


@pytest.mark.parametrize(
    "words", [["", "-o", "out"], ["photo.png", "-o", ""], ["photo.png", "-o", "o.png", "--map", ""]]
)
def test_an_empty_path_is_one_sentence(run, tmp_path, words):
    make_photo(tmp_path / "photo.png")
    code, lines, refused = run(*words)
    assert (code, lines, len(refused)) == (2, [], 1)
    assert "a path is empty; name a file or folder" in refused[0]
    assert files_in(tmp_path) == ["photo.png"]


def test_steps_out_of_range_are_refused(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    for steps in (0, 1001, 2**70):
        code, _, refused = run("photo.png", "-o", "o.png", steps=steps)
        assert code == 2
        assert refused == [f"steps must be from 1 to 1000, got {steps}"]


def test_wrong_weights_are_refused(tmp_path, weights, capsys):
    photo = str(make_photo(tmp_path / "photo.png"))
    checkpoint = Checkpoint("mmle", {}, {"a": torch.zeros(1)})
    save_checkpoint(checkpoint, tmp_path / "mmle.safetensors")
    odd = Checkpoint("ldm", {"unet": {"model_channels": "x"}}, {"a": torch.zeros(1)})
    save_checkpoint(odd, tmp_path / "odd.safetensors")
    (tmp_path / "noise.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "cut.safetensors").write_bytes(weights.read_bytes()[:-10])
    for name in ("mmle", "odd", "noise", "cut", "absent"):
        model = str(tmp_path / f"{name}.safetensors")
        assert main(["upscale", photo, "-o", str(tmp_path / "o.png"), "--model", model]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert name in captured.err
    assert not (tmp_path / "o.png").exists()


def test_no_argument_is_one_sentence(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == "adadiffsr: the following arguments are required: COMMAND; see adadiffsr --help\n"


def test_what_is_said_is_short_and_on_one_line_whatever_was_named(capsys):
    assert main(["upscale", "a" * 5000, "-o", "\x1b[31m\ud800.png", "--device", "\u202e" * 900]) == 2
    said = capsys.readouterr().err
    assert said.startswith("adadiffsr: ")
    assert said.count("\n") == 1
    assert said.endswith("\n")
    assert len(said) < 1100
    assert said[:-1].isprintable()


@pytest.mark.skipif(os.name == "nt", reason="links and pipes")
@pytest.mark.parametrize("inputs", ["in", "in/*", "in/**/*.*"])
def test_what_only_has_a_photographs_name_is_refused_line_by_line(run, tmp_path, inputs):
    make_photo(tmp_path / "in" / "a.png")
    for name, far in {
        "gone.png": "nowhere", "gone.JPG": "nowhere", "loop.gif": "loop.gif", "null.tif": "/dev/null", "gone.txt": "no",
        "twin.png": "a.png", "z.png": ".", ".gone.png": "nowhere",
    }.items():  # fmt: skip
        (tmp_path / "in" / name).symlink_to(far)
    os.mkfifo(tmp_path / "in" / "pipe.webp")
    os.mkfifo(tmp_path / "in" / "pipe")
    code, lines, refused = run(inputs, "-o", "out", "--scale", "1")
    assert (code, len(lines)) == (2, 1)
    assert [line.split()[0] for line in refused] == [
        f"in/{name}" for name in ("gone.JPG", "gone.png", "loop.gif", "null.tif", "pipe.webp")
    ]
    assert files_in(tmp_path / "out") == ["a.png"]
