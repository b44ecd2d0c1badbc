"""Every field of every config is what its annotation says, and messages show foreign text safely."""

import dataclasses
import importlib
import itertools
import math
import pkgutil
from typing import get_args, get_origin

import pytest

import adadiffsr_core
from adadiffsr_core.config import Config, _kinds, _members, _plain
from adadiffsr_core.errors import CheckpointError, ConfigError
from adadiffsr_core.nets.autoencoder import AutoencoderConfig
from adadiffsr_core.nets.pfj import PfjConfig
from adadiffsr_core.nets.unet import UNetConfig
from adadiffsr_core.plain_json import parse_json
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.text import quoted, shown
from adadiffsr_core.training.loop.config import LoopConfig
from adadiffsr_core.training.recipe import LdmRecipe

for module in pkgutil.walk_packages(adadiffsr_core.__path__, "adadiffsr_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)


def subclasses(config):
    for below in config.__subclasses__():
        yield below
        yield from subclasses(below)


CONFIGS = sorted(set(subclasses(Config)), key=lambda config: config.__name__)
FIELDS = [(config, name) for config in CONFIGS for name in _kinds(config)]
# What is none of a number, a truth value, a choice, a section or a list of ours.
NEVER = [
    math.nan,
    math.inf,
    -math.inf,
    object(),
    "\x1b[31m",
    "\ud800",
    10**5000,
    2**64,
    {"a": 1},
    b"x",
    {1},
    [math.nan],
]


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_no_field_takes_what_is_no_value(config, name):
    needed = {"factors": ((0.0, 0.0, 0.0),)} if config.__name__ == "LatentColours" else {}
    for value, build in itertools.product(NEVER, (lambda values: config(**values), config.from_dict)):
        with pytest.raises(ConfigError) as refused:
            build({**needed, name: value})
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_truth_values_are_no_numbers_and_fractions_are_not_whole(config, name):
    kinds = [_plain(kind) for kind in _members(_kinds(config)[name])]
    wrong = [True] if int in kinds or float in kinds else []
    wrong += [1.5, 64.0, "3"] if int in kinds else []
    wrong += [0, 1, "true"] if bool in kinds else []
    needed = {"factors": ((0.0, 0.0, 0.0),)} if config.__name__ == "LatentColours" else {}
    for value in wrong:
        with pytest.raises(ConfigError, match=name):
            config(**{**needed, name: value})


@pytest.mark.parametrize(("config", "name"), FIELDS, ids=lambda part: getattr(part, "__name__", part))
def test_a_number_that_is_too_large_is_told_its_range_and_not_another_kind(config, name):
    if int not in [_plain(kind) for kind in _members(_kinds(config)[name])]:
        return
    needed = {"factors": ((0.0, 0.0, 0.0),)} if config.__name__ == "LatentColours" else {}
    for value in (2**64, 2**70, 10**5000):
        with pytest.raises(ConfigError, match=rf"{name} must be (at most|from -?\d+ to) \d+, got"):
            config(**{**needed, name: value})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_defaults_go_to_json_and_back(config):
    needed = {"factors": ((0.0, 0.0, 0.0),)} if config.__name__ == "LatentColours" else {}
    made = config(**needed)
    assert config.from_dict(made.to_dict()) == made
    assert [field.name for field in dataclasses.fields(config)] == list(_kinds(config))


@pytest.mark.parametrize("values", [[], [1], "unet", None, 3, [{}]], ids=str)
def test_a_section_that_is_none_is_refused(values):
    with pytest.raises(ConfigError, match="UNetConfig must be a section"):
        UNetConfig.from_dict(values)
    with pytest.raises(ConfigError, match="loop must be a section"):
        LdmRecipe.from_dict({"loop": values})


@pytest.mark.parametrize(
    ("config", "values", "sentence"),
    [
        (UNetConfig, {"model_channels": 10**9}, "at most 16384"),
        (UNetConfig, {"channel_mult": [1] * 7}, "hold at most 6"),
        (UNetConfig, {"num_res_blocks": 10**6}, "at most 4"),
        (UNetConfig, {"channel_mult": [1] * 6, "num_res_blocks": 4}, "at most 16"),
        (UNetConfig, {"attention_levels": [0, 0], "num_heads": 1}, "each once"),
        (AutoencoderConfig, {"encoder_blocks": [-1, 2]}, "not be negative"),
        (AutoencoderConfig, {"patch": 10**6}, "at most 64"),
        (PfjConfig, {"gain_scale": 1e-300}, "gain_scale must be above 0"),
        (LoopConfig, {"seed": -1}, "from 0 to 18446744073709551615"),
        (LoopConfig, {"betas": [0.9, 1.0]}, "betas"),
        (LoopConfig, {"betas": [0.9]}, "a list of 2 values"),
        (LoopConfig, {"warmup_steps": -1}, "warmup_steps"),
        (Schedule, {"prediction": ["v"]}, "is unknown; use one of eps, v, flow"),
        (Schedule, {"predictions": "v"}, "has no setting predictions"),
    ],
)
def test_numbers_out_of_their_range_are_refused(config, values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        config.from_dict(values)


def test_every_count_of_a_network_has_a_bound():
    for config in CONFIGS:
        if config.__module__.startswith("adadiffsr_core.nets"):
            for name, kind in _kinds(config).items():
                for member in _members(kind):
                    held = get_args(_plain(member))[0] if get_origin(_plain(member)) is tuple else member
                    unbounded = held is int and name != "attention_levels"  # which are among the levels
                    assert not unbounded, f"{config.__name__}.{name}"


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[Infinity]",
        "1e999",
        "1" * 5000,
        "[" * 10**5,
        '{"a":' * 10**4,
        '{"a": 1, "a": 2}',
        "[" * 40 + "]" * 40,
        "{",
        b"\xff",
    ],
    ids=lambda text: repr(text[:9]),
)
def test_json_that_is_none_of_ours_is_refused(text):
    with pytest.raises(ValueError, match=r"^[^\n]{5,120}$"):
        parse_json(text)


def test_json_of_ours_is_read():
    assert parse_json('{"a": [1, 2.5, null, "x", true]}') == {"a": [1, 2.5, None, "x", True]}


def test_foreign_text_is_shown_escaped_and_cut():
    assert shown("a\nb\x1b\ud800\u202e") == "a\\nb\\x1b\\ud800\\u202e"
    assert shown("ü 漢") == "ü 漢"
    assert shown("x" * 1000) == "x" * 199 + "…"
    assert len(quoted(["y" * 10**6] * 100)) <= 200
    assert "too long" in quoted(10**5000)
    assert str(CheckpointError("one\r\ntwo\x00")) == "one\\r\\ntwo\\x00"
