"""What the words of `adadiffsr upscale` mean: settings and their rules, presets, sizes, devices."""

import re
from argparse import ArgumentParser, Namespace
from dataclasses import replace

import pytest
import torch

from adadiffsr_core.commands import making
from adadiffsr_core.commands import upscale as command
from adadiffsr_core.commands.arguments import add_arguments
from adadiffsr_core.commands.options import choose_device, choose_dtype, parse_size
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.photo.limits import MAX_PIXELS
from adadiffsr_core.photo.scales import target_size
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.settings import PRESETS, SamplingConfig
from tests.core.commands.upscaled import make_photo


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


@pytest.mark.parametrize(("steps", "least"), [(1, 1), (2, 2), (24, 2), (1000, 2)])
def test_a_budget_is_one_that_every_tile_can_keep_to_or_none(steps, least):
    rule = PRESETS["everyday"].dtss
    for budget in (0.0001, least - 1e-6):
        with pytest.raises(ConfigError, match=f"budget must be at least {least}, the evaluations that every tile"):
            SamplingConfig(steps=steps, dtss=replace(rule, rule="bounded", budget=budget))
        SamplingConfig(steps=steps, dtss=replace(rule, rule="paper", budget=budget))  # which has no part in it
    for budget in (0.0, float(least)):
        assert SamplingConfig(steps=steps, dtss=replace(rule, rule="bounded", budget=budget)).dtss.budget == budget


def test_the_paper_preset_is_taken_whole():
    args = Namespace(
        preset="paper", steps=None, solver=None, denoise=None, merge=None, tile_batch=None, seed=None, colour=None,
        tile_size=None, overlap=None,
        intervals=None, gain_threshold=None, early_exit=None, uniform=None, pfj_strength=None, rule=None, likeness=None,
        budget=None, visit_last=None,
    )  # fmt: skip
    assert command.sampling_config(args) == PRESETS["paper"]


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


def test_help_names_the_everyday_preset_s_own_numbers():
    """What is said in brackets at the end of a line, but for numbers that a preset does not have."""
    parser, everyday = ArgumentParser(), PRESETS["everyday"]
    add_arguments(parser)
    said = {}
    for action in parser._actions:
        found = re.search(r"\((\d+(?:\.\d+)?)(?:;[^()]*)?\)$", action.help or "")
        owner = next((part for part in (everyday, everyday.dtss) if hasattr(part, action.dest)), None)
        if found and owner is not None:
            said[action.dest] = (float(found[1]), float(getattr(owner, action.dest)))
    assert len(said) >= 5
    assert all(number == own for number, own in said.values()), said
