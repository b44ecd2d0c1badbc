import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.cli import build_parser, main
from adadiffsr_core.commands import making
from adadiffsr_core.commands import upscale as command
from adadiffsr_core.commands.arguments import add_arguments
from adadiffsr_core.commands.journal import NAME as JOURNAL
from adadiffsr_core.commands.masks import open_mask
from adadiffsr_core.commands.options import choose_device, choose_dtype, parse_size
from adadiffsr_core.commands.terminal import ProgressBar
from adadiffsr_core.errors import DenoiserError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.photo.enlarging import enlarge
from adadiffsr_core.photo.limits import MAX_PIXELS
from adadiffsr_core.photo.reading import read_photo
from adadiffsr_core.photo.scales import target_size
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.sampling.turn import Progress
from adadiffsr_core.settings import PRESETS, SamplingConfig

SIDE = 20
DONE = re.compile(r"^(.+): (\d+) of (\d+) evaluations spent \((-?\d+) % saved\), \d+\.\d s$")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    unet = UNet(UNetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1))
    autoencoder = Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    torch.nn.init.normal_(unet.out[-1].weight, std=0.05)
    tensors = {f"model.diffusion_model.{key}": value for key, value in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in autoencoder.state_dict().items()}
    config = {
        "unet": unet.config.to_dict(),
        "autoencoder": autoencoder.config.to_dict(),
        "schedule": {"prediction": "v"},
        "scales": [0.01, 16384],
    }
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(Checkpoint("ldm", config, tensors), path)
    return path


@pytest.fixture
def run(tmp_path, weights, capsys, monkeypatch):
    """Runs `adadiffsr upscale` in a folder of its own; gives code, lines on stdout, and refusals on stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words, steps=2):
        code = main(["upscale", *map(str, words), "--model", str(weights), "--steps", str(steps)])
        out, err = capsys.readouterr()
        spoken = [line for part in err.split("\r") for line in part.split("\n") if line.startswith("adadiffsr: ")]
        assert "Traceback" not in err
        return code, out.splitlines(), [line.removeprefix("adadiffsr: ") for line in spoken]

    return call


def make_photo(path, mode="RGB", side=SIDE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (side, side + 4, 4), dtype=np.uint8)
    image = Image.fromarray(levels)
    if mode == "I;16":
        image = Image.fromarray(levels[..., 0].astype(np.uint16) * 257 + 3)
    elif mode != "RGBA":
        image = image.convert("RGB").convert(mode)
    image.save(path)
    return path


def files_in(folder):
    """All but the journal of a folder of results."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL]
    return sorted(str(path.relative_to(folder)) for path in files)


def test_one_photo_becomes_one_file_and_one_line(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    code, lines, refused = run("photo.png", "-o", "big.png")
    assert (code, refused) == (0, [])
    (line,) = lines
    name, spent, full, saved = DONE.match(line).groups()
    assert name == "photo.png"
    assert int(saved) == round(100 * (1 - int(spent) / int(full)))
    assert read_photo("big.png").pixels.shape == (3, 4 * SIDE, 4 * (SIDE + 4))
    assert files_in(tmp_path) == ["big.png", "photo.png"]


def test_the_same_words_give_the_same_bytes_and_another_seed_does_not(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run("photo.png", "-o", f"{name}.png", "--seed", seed, "--colour", "none")[0] == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_the_result_is_what_the_pipeline_gives(run, tmp_path, weights):
    photo = read_photo(make_photo(tmp_path / "photo.png"))
    run("photo.png", "-o", "big.png", "--scale", "2", "--seed", "5", "--solver", "ddpm", "--uniform", "2", steps=4)
    settings = SamplingConfig(steps=4, seed=5, solver="ddpm").uniform(2)
    expected = upscale(load_model(weights), photo.pixels[None], (2 * SIDE, 2 * SIDE + 8), settings)
    assert (read_photo("big.png").pixels - expected.image[0]).abs().max() <= 0.5 / 255 + 1e-6


def test_every_setting_arrives(run, tmp_path, monkeypatch):
    make_photo(tmp_path / "photo.png")
    seen = []

    def spy(model, image, size, config, **more):
        seen.append((model, config))
        return upscale(model, image, size, config, **more)

    monkeypatch.setattr(making, "upscale", spy)
    words = "--solver dpmpp_2m --intervals 1,2,2,3 --gain-threshold 0.5 --merge every_step --early-exit --tile-batch 3"
    more = "--seed 7 --denoise 0.5 --pfj-strength 0.25 --colour adain --dtype bfloat16 --device cpu --scale 1"
    more += " --tile-size 128 --overlap 32"
    code, _, _ = run("photo.png", "-o", "big.png", *words.split(), *more.split(), steps=3)
    assert code == 0
    ((model, config),) = seen
    assert model.dtype == torch.bfloat16
    everyday = PRESETS["everyday"].dtss
    assert config == SamplingConfig(
        steps=3,
        solver="dpmpp_2m",
        merge="every_step",
        tile_size=128,
        overlap=32,
        tile_batch=3,
        seed=7,
        denoise=0.5,
        pfj_strength=0.25,
        colour="adain",
        dtss=replace(everyday, rule="paper", intervals=(1, 2, 2, 3), gain_threshold=0.5, early_exit=True),
    )


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("--likeness 38", {"rule": "bounded", "likeness": 38.0}),
        ("--budget 5", {"rule": "bounded", "budget": 5.0}),
        ("--rule paper --visit-last", {"rule": "paper", "visit_last": True}),
        ("--gain-threshold 0.01", {"rule": "paper", "gain_threshold": 0.01}),
        ("--rule bounded", {"rule": "bounded"}),
    ],
)
def test_a_setting_brings_its_rule(words, rule):
    parser = ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(["photo.png", "-o", "big.png", *words.split()])
    everyday = PRESETS["everyday"]
    assert command.sampling_config(args) == replace(everyday, dtss=replace(everyday.dtss, **rule))


@pytest.mark.parametrize(
    "words", ["--intervals 1,2 --likeness 40", "--rule paper --budget 4", "--uniform 2 --budget 4"]
)
def test_settings_of_two_rules_are_refused(run, tmp_path, words):
    make_photo(tmp_path / "photo.png")
    code, _, err = run("photo.png", "-o", "big.png", *words.split())
    assert code != 0
    assert "plays no part in the rule" in err[0]


def test_a_check_says_how_near_tiles_come_to_all_steps(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    code, out, _ = run("photo.png", "-o", "big.png", "--budget", "2", "--check", "--report", "r.json", steps=4)
    assert code == 0
    report = json.loads(Path("r.json").read_text())
    assert len(report["checked_db"]) == len(report["tiles"])
    assert "tiles beside all steps" in out[1]
    assert all(5 < value < 100 for value in report["checked_db"])
    run("photo.png", "-o", "big.png", "--likeness", "100", "--check", "--report", "r.json", steps=4)
    assert set(json.loads(Path("r.json").read_text())["checked_db"]) == {None}


def test_the_paper_preset_is_taken_whole():
    args = Namespace(
        preset="paper", steps=None, solver=None, denoise=None, merge=None, tile_batch=None, seed=None, colour=None,
        tile_size=None, overlap=None,
        intervals=None, gain_threshold=None, early_exit=None, uniform=None, pfj_strength=None, rule=None, likeness=None,
        budget=None, visit_last=None,
    )  # fmt: skip
    assert command.sampling_config(args) == PRESETS["paper"]


def test_map_report_and_comparison_are_written(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    extra = ("--map", "m.png", "--report", "r.json", "--compare", "c.png")
    code, lines, _ = run("photo.png", "-o", "big.png", *extra, "--uniform", "1", steps=3)
    assert code == 0
    report = json.loads(Path("r.json").read_text())
    assert report["nfe"] == report["full_nfe"] == int(DONE.match(lines[0]).group(2)) == 3
    assert report["output_size_px"] == [4 * (SIDE + 4), 4 * SIDE]
    assert report["input_size_px"] == [SIDE + 4, SIDE]
    assert report["settings"]["dtss"]["intervals"] == [1, 1, 1, 1]
    assert len(report["tiles"]) == 1
    assert max(read_photo("m.png").pixels.shape) >= 640
    assert read_photo("c.png").pixels.shape[2] > 2 * 4 * SIDE


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("RGBA", "png"), ("I;16", "png"), ("RGBA", "tif"), ("L", "jpg")]
)
def test_kind_of_picture_is_kept(run, tmp_path, mode, suffix):
    before = read_photo(make_photo(tmp_path / f"photo.{suffix}", mode))
    assert run(f"photo.{suffix}", "-o", f"big.{suffix}", "--scale", "2")[0] == 0
    after = read_photo(f"big.{suffix}")
    assert (after.is_grey, after.bit_depth) == (before.is_grey, before.bit_depth)
    assert (after.alpha is None) == (before.alpha is None)
    if before.alpha is not None:
        expected = enlarge(before.alpha[None], (2 * SIDE, 2 * SIDE + 8))[0]
        assert (after.alpha - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_an_opaque_alpha_stays_opaque(run, tmp_path):
    Image.new("RGBA", (SIDE, SIDE), (90, 40, 200, 255)).save(tmp_path / "photo.png")
    assert run("photo.png", "-o", "big.png", "--scale", "1.7")[0] == 0
    assert bool((read_photo("big.png").alpha == 1).all())


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


def test_two_photos_of_one_name_do_not_overwrite_each_other(run, tmp_path):
    for name in ("x/a.png", "y/a.png", "z/a.gif"):
        make_photo(tmp_path / name)
    code, lines, refused = run("x/a.png", "y/a.png", "z/a.gif", "-o", "out", "--scale", "1")
    assert (code, len(lines), refused) == (0, 3, [])
    assert files_in(tmp_path / "out") == ["a.gif.png", "x/a.png", "y/a.png"]


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


def test_a_mask_of_several_frames_says_which_is_taken(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    for name, parts in (("mask.gif", "2 frames"), ("mask.tif", "2 pages")):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        _, _, said = run("photo.png", "-o", "big.png", "--mask", name)
        assert f"the mask {name} has {parts}; the first is taken" in said


def test_mask_saves_evaluations(run, tmp_path):
    make_photo(tmp_path / "photo.png")
    Image.new("L", (9, 7), 0).save(tmp_path / "black.png")
    Image.new("RGB", (9, 7), (255, 255, 255)).save(tmp_path / "white.png")
    for mask, nfe in (("black", 0), ("white", 5)):
        _, lines, _ = run("photo.png", "-o", f"{mask}-big.png", "--mask", f"{mask}.png", "--scale", "1", steps=5)
        assert DONE.match(lines[0]).groups()[1:3] == (str(nfe), "5")


def test_black_comes_back_to_the_level(run, tmp_path):
    make_photo(tmp_path / "photo.png", "RGBA")
    Image.new("L", (2, 1), 0).save(tmp_path / "black.png")
    Image.frombytes("L", (2, 1), bytes([0, 255])).save(tmp_path / "half.png")
    given = np.asarray(Image.open(tmp_path / "photo.png"))
    for mask, width in (("black", SIDE + 4), ("half", SIDE // 2 + 2)):
        run("photo.png", "-o", f"{mask}-big.png", "--mask", f"{mask}.png", "--scale", "1")
        found = np.asarray(Image.open(tmp_path / f"{mask}-big.png"))
        assert np.array_equal(found[:, :width], given[:, :width])


def test_a_transparent_mask_asks_for_nothing(tmp_path):
    Image.fromarray(np.array([[[255, 255], [0, 255], [255, 0], [0, 0]]], np.uint8), "LA").save(tmp_path / "mask.png")
    assert open_mask(tmp_path / "mask.png").read_whole().tolist() == [[[[1.0, 0.0, 0.5, 0.5]]]]


def test_damage_within_a_jpeg_is_told(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as picture:
        picture.save(tmp_path / "photo.jpg", progressive=True, quality=95)
    words = ["upscale", "photo.jpg", "-o", "big.png", "--model", str(weights), "--steps", "2"]
    note = "note: photo.jpg is damaged in places, which its decoder filled; look at it"
    assert main(words) == 0
    assert note not in capsys.readouterr().err
    whole = (tmp_path / "photo.jpg").read_bytes()
    middle = len(whole) * 2 // 3
    (tmp_path / "photo.jpg").write_bytes(whole[:middle] + bytes(20) + whole[middle + 20 :])
    assert main(words) == 0
    assert note in capsys.readouterr().err


def test_a_strange_scale_is_worked_at_a_known_one_and_told(run, tmp_path, weights, capsys):
    make_photo(tmp_path / "photo.png")
    checkpoint = load_checkpoint(weights)
    plain = {name: section for name, section in checkpoint.config.items() if name != "scales"}
    save_checkpoint(replace(checkpoint, config=plain), tmp_path / "plain.safetensors")
    words = ["photo.png", "-o", "big.png", "--map", "map.png", "--report", "big.json", "--steps", "2"]
    for scale, work in (("2", [96, 80]), ("9", [216, 180]), ("4", [96, 80])):
        assert main(["upscale", *words, "--model", "plain.safetensors", "--scale", scale]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
        report = json.loads((tmp_path / "big.json").read_text())
        assert report["work_size_px"] == work
        assert told == ([f"note: photo.png: {report['note']}"] if scale != "4" else [])
        with Image.open(tmp_path / "big.png") as picture:
            assert picture.size == (24 * int(scale), 20 * int(scale))


def test_hidden_colours_reach_no_picture(run, tmp_path):
    photo = make_photo(tmp_path / "a.png", "RGBA")
    levels = np.array(Image.open(photo))
    levels[5:15, 5:, 3], levels[:5, :, 3], levels[15:, :, 3], levels[:, :5, 3] = 0, 255, 255, 255
    Image.fromarray(levels).save(photo)
    levels[5:15, 5:, :3] = 255 - levels[5:15, 5:, :3]
    Image.fromarray(levels).save(tmp_path / "b.png")
    for name in "ab":
        run(f"{name}.png", "-o", f"{name}-big.png", "--map", f"{name}-map.png", "--compare", f"{name}-compare.png")
    for kind in ("big", "map", "compare"):
        assert (tmp_path / f"a-{kind}.png").read_bytes() == (tmp_path / f"b-{kind}.png").read_bytes()


def test_no_argument_is_one_sentence(capsys):
    assert main([]) == 2
    assert capsys.readouterr().err == "adadiffsr: the following arguments are required: COMMAND; see adadiffsr --help\n"


def test_upscaling_needs_no_training_extra(run, tmp_path, monkeypatch):
    make_photo(tmp_path / "photo.png")
    for name in ("cv2", "scipy", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    assert run("photo.png", "-o", "big.png", "--scale", "1", "--map", "m.png", "--compare", "c.png")[0] == 0


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


@pytest.mark.parametrize(
    ("source", "scale", "size", "expected"),
    [
        ((20, 30), 4, None, (80, 120)),
        ((20, 30), 1.5, None, (30, 45)),
        ((20, 30), 4, 60, (40, 60)),
        ((30, 20), 4, 60, (60, 40)),
        ((20, 30), 4, (7, 9), (7, 9)),
        ((1, 1), 16384, None, (16384, 16384)),
    ],
)
def test_target_sizes(source, scale, size, expected):
    assert target_size(source, scale, size) == expected
    assert expected[0] * expected[1] <= MAX_PIXELS


def test_sizes_are_width_by_height():
    assert parse_size("1920x1080") == (1080, 1920)
    assert parse_size("2048") == 2048


def test_auto_device_and_dtype():
    device = choose_device(None)
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_dtype("auto", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("bfloat16", device) == torch.bfloat16


def test_what_is_said_is_short_and_on_one_line_whatever_was_named(capsys):
    assert main(["upscale", "a" * 5000, "-o", "\x1b[31m\ud800.png", "--device", "\u202e" * 900]) == 2
    said = capsys.readouterr().err
    assert said.startswith("adadiffsr: ")
    assert said.count("\n") == 1
    assert said.endswith("\n")
    assert len(said) < 1100
    assert said[:-1].isprintable()
