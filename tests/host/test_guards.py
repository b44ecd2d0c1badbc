"""What a run refuses: other nodes on the model, what is no picture, and numbers that make no sense."""

import importlib
import math
from functools import partial
from types import FunctionType

import pytest
import torch

from tests.host import tiny
from tests.host.pack import part
from tests.host.test_cropping import HEIGHT, WIDTH, sample_regions


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["cfg", "denoise"])
def test_a_number_that_is_none_is_named_and_blames_no_network(pack, name, value):
    """The host's ranges let NaN through; the network would have answered it with NaN."""
    settings = part("nodes.host.run").KSamplerSettings
    with pytest.raises(part("adadiffsr_core.errors").ConfigError, match=f"{name} must be"):
        settings(seed=2**64 - 1, steps=4, **{name: value})


CACHES = {
    "EasyCache": lambda model: easy_cache(model, "EasyCacheNode"),
    "LazyCache": lambda model: easy_cache(model, "LazyCacheNode"),
    "TeaCache": lambda model: model.model_options["transformer_options"].update(rel_l1_thresh=0.3),
    "WaveSpeed": lambda model: model.set_model_unet_function_wrapper(
        FunctionType((lambda apply, args: None).__code__, {"__name__": "custom_nodes.wavespeed.fbcache_nodes"})
    ),
}


def easy_cache(model, node):
    found = getattr(importlib.import_module("comfy_extras.nodes_easycache"), node)
    patched = found.execute(model, 0.2, 0.15, 0.95, False)[0]
    model.model_options, model.wrappers = patched.model_options, patched.wrappers


@pytest.mark.parametrize("cache", CACHES)
def test_step_caches_are_refused(host, pack, cache):
    model = tiny.build_model(host).clone()
    CACHES[cache](model)
    with pytest.raises(ValueError, match=cache):
        sample_regions(host, pack, model, tiny.text())


class AbstractDiffusion:
    """As tiled diffusion packs put one on a model."""

    def __call__(self, apply, args):
        raise AssertionError("it was asked to cut a region")


TILERS = {
    "SpotDiffusion": lambda wrapper: wrapper,
    "MultiDiffusion": lambda wrapper: wrapper.__call__,
    "MixtureOfDiffusers": lambda wrapper: partial(wrapper.__call__),
    "Tiled_Diffusion": lambda wrapper: partial(wrapper),
}


@pytest.mark.parametrize("tiler", TILERS)
def test_tiled_diffusion_on_the_model_is_refused(host, pack, tiler):
    model = tiny.build_model(host).clone()
    model.set_model_unet_function_wrapper(TILERS[tiler](type(tiler, (AbstractDiffusion,), {})()))
    with pytest.raises(ValueError, match="a tiled diffusion node is on the model"):
        sample_regions(host, pack, model, tiny.text())


def test_another_function_about_the_model_is_called(host, pack):
    model, seen = tiny.build_model(host).clone(), []

    def look(apply, args):
        seen.append(len(args["input"]))
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(look)
    sample_regions(host, pack, model, tiny.text())
    assert seen


def test_patches_that_hold_a_picture_are_refused(host, pack):
    model = tiny.build_model(host).clone()

    class Patch:
        encoded_image = torch.zeros(1, 4, HEIGHT, WIDTH)

        def __call__(self, args):
            return args

    model.set_model_patch(Patch(), "double_block")
    with pytest.raises(ValueError, match="holds a picture of the whole canvas"):
        sample_regions(host, pack, model, tiny.text())


def test_what_is_no_picture_is_refused(host, pack):
    guard = pack("nodes.host.guards").refuse_unsuitable
    sigmas = torch.tensor([1.0, 0.0])
    with pytest.raises(ValueError, match="for pictures"):
        guard({}, torch.zeros(1, 16, 3, 8, 8), sigmas)
    with pytest.raises(ValueError, match="end at 0"):
        guard({}, torch.zeros(1, 4, 8, 8), sigmas[:1])
    with pytest.raises(ValueError, match="context windows"):
        guard({"context_handler": object()}, torch.zeros(1, 4, 8, 8), sigmas)


SIZES = {
    "tile_size 500 px is not a multiple of 32; use 480 or 512": {"tile_size": 500},
    "overlap 60 px is not a multiple of 8; use 56 or 64": {"overlap": 60},
    "overlap 64 px leaves no room in tile_size 64 px; use an overlap of at most 32, or a tile_size above 64": {
        "tile_size": 64,
        "overlap": 64,
    },
    "overlap 512 px leaves no room in the model's tiles of 512 px; use an overlap of at most 256, or a tile_size": {
        "tile_size": 0,
        "overlap": 512,
    },
}


@pytest.mark.parametrize("message", SIZES)
def test_sizes_that_do_not_fit_are_refused_in_pixels(host, pack, message):
    with pytest.raises(ValueError, match=message):
        sample_regions(host, pack, tiny.build_model(host), tiny.text(), **SIZES[message])


@pytest.mark.parametrize("intervals", ["", "a, b", "1.5", "2, 1", "0, 1"])
def test_intervals_that_are_no_ladder_are_refused(pack, intervals):
    with pytest.raises(ValueError, match="intervals"):
        pack("nodes.settings").read_settings(intervals=intervals, gain_threshold=1e-3, early_exit=False)
