"""What a run does to the host: progress, cancel, memory, boundaries; and what it refuses."""

import importlib
import math
from functools import partial
from types import FunctionType, SimpleNamespace

import pytest
import torch

from tests.host import tiny
from tests.host.pack import part
from tests.host.test_cropping import HEIGHT, STEPS, TILE, WIDTH, sample_regions, scattering, settings_of
from tests.host.test_equality import SEED, TOLERANCE


def watched(host, model, watch):
    """The model with `watch` called before each evaluation, as other packs' nodes do."""
    model = model.clone()

    def wrapper(executor, x, t, *args, **options):
        watch(x, t)
        return executor(x, t, *args, **options)

    model.add_wrapper_with_key(host("patcher_extension").WrappersMP.APPLY_MODEL, "watch", wrapper)
    return model


def differs(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


def same_for_every_batch(host, pack, model, positive, **fields):
    one, one_merged, *_ = sample_regions(host, pack, model, positive, tile_batch=1, **scattering(pack), **fields)
    many, many_merged, *_ = sample_regions(host, pack, model, positive, tile_batch=8, **scattering(pack), **fields)
    assert max(many.report.calls) > 1
    assert len({tuple(step.index for step in tile.steps) for tile in one.report.tiles}) > 1
    assert differs(many_merged, one_merged) < TOLERANCE
    return one_merged


def test_a_batch_never_straddles_a_timed_prompt(host, pack):
    model = tiny.build_model(host)
    timed = tiny.text(0, start_percent=0.0, end_percent=0.4) + tiny.text(1, start_percent=0.4, end_percent=1.0)
    merged = same_for_every_batch(host, pack, model, timed)
    assert differs(merged, same_for_every_batch(host, pack, model, tiny.text(0))) > 10 * TOLERANCE


def override_cfg(host, model, cfg, start, end):
    """As the host's CFG Override, which its older versions lack: it looks at the first sigma of a batch."""
    sampling, model = model.get_model_object("model_sampling"), model.clone()
    sigma_high, sigma_low = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)

    def override(executor, x, timestep, *args, **options):
        if not sigma_low <= float(timestep[0]) <= sigma_high:
            return executor(x, timestep, *args, **options)
        guider, before = executor.class_obj, executor.class_obj.cfg
        guider.cfg = cfg
        try:
            return executor(x, timestep, *args, **options)
        finally:
            guider.cfg = before

    model.add_wrapper(host("patcher_extension").WrappersMP.PREDICT_NOISE, override)
    return model


def test_a_batch_never_straddles_a_sigma_that_a_node_holds(host, pack):
    model = tiny.build_model(host)
    merged = same_for_every_batch(host, pack, override_cfg(host, model, 8.0, 0.3, 0.6), tiny.text())
    assert differs(merged, same_for_every_batch(host, pack, model, tiny.text())) > 10 * TOLERANCE
    theirs = getattr(importlib.import_module("comfy_extras.nodes_custom_sampler"), "CFGOverride", None)
    if theirs is not None:
        overridden = theirs.execute(model, 8.0, 0.3, 0.6)[0]
        assert differs(same_for_every_batch(host, pack, overridden, tiny.text()), merged) < TOLERANCE


def test_sigmas_that_patches_hold_are_found(host, pack):
    class Patch:
        sigma_end = 9.0

        def __init__(self):
            self.sigma_start, self.strength = 2.0, 3.0

        def __call__(self, args):
            return args

        def method(self, args):
            return args

    def closure(sigma_start, other):
        def inner(args):
            return sigma_start, other, later

        if other is None:
            later = 1.0
        return inner

    options = {"transformer_options": {"patches": {"a": [Patch(), Patch().method]}}, "b": closure(5.0, 6.0)}
    found = pack("nodes.host.boundaries").find_boundaries(SimpleNamespace(conds={}), options)
    assert sorted({round(sigma, 3) for sigma in found}) == [2.0, 5.0]


def test_key_frames_of_weight_hooks_follow_each_tile(host, pack):
    hooks = host("hooks")
    model = tiny.build_model(host)
    state = model.model_state_dict()
    weights = {key: ("diff", (tiny.draw(*state[key].shape, seed=8) * 10,)) for key in state if "attn2.to_v" in key}

    def prompts(*strengths):
        group = hooks.HookGroup()
        hook = hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
        hook.weights, hook.need_weight_init = weights, False
        group.add(hook)
        frames = hooks.HookKeyframeGroup()
        for place, strength in enumerate(strengths):
            frames.add(hooks.HookKeyframe(strength, start_percent=place / len(strengths)))
        group.set_keyframes_on_hooks(frames)
        return tiny.text(0, hooks=group)

    merged = same_for_every_batch(host, pack, model, prompts(1.0, 0.0, 2.0))
    assert differs(merged, same_for_every_batch(host, pack, model, prompts(1.0))) > 10 * TOLERANCE
    assert differs(merged, same_for_every_batch(host, pack, model, tiny.text(0))) > 10 * TOLERANCE


def test_previews_of_the_canvas_come_four_times_a_second_at_most(pack, monkeypatch):
    preview, turn = pack("nodes.host.preview"), pack("adadiffsr_core.sampling.turn")
    grid, clock, told = pack("adadiffsr_core.sampling.tiles").build_grid(8, 8, 8, 0), [0.0], []
    monkeypatch.setattr(preview, "monotonic", lambda: clock[0])
    shown = preview.Preview(lambda step, *_: told.append(step), torch.zeros(1, 4, 8, 8), grid, True)
    for number in range(1, 101):
        clock[0] = number / 50
        shown(turn.Progress(number, 100))
    assert 8 <= len(told) <= 9
    shown.finish(torch.zeros(1, 4, 8, 8))
    assert told[-1] == 99


def test_progress_is_one_bar_whose_total_falls_and_previews_show_the_canvas(host, pack, monkeypatch):
    monkeypatch.setattr(pack("nodes.host.preview"), "PREVIEWS_PER_SECOND", float("inf"))
    model, told = tiny.build_model(host), []
    sampler = pack("nodes.host.sampler").RegionSampler(settings_of(pack, tile_batch=2, intervals="1, 2, 3"))
    guider = host("samplers").CFGGuider(model)
    guider.set_conds(tiny.text(), tiny.text(9))
    latent, noise = tiny.draw(1, 4, HEIGHT, WIDTH, seed=1), tiny.draw(1, 4, HEIGHT, WIDTH, seed=2)
    sigmas = tiny.build_sigmas(host, model, 12)
    merged = guider.sample(
        noise,
        latent,
        sampler,
        sigmas,
        callback=lambda step, x0, x, total: told.append((step + 1, total, x0.clone())),
        disable_pbar=True,
        seed=SEED,
    )
    done, totals, previews = zip(*told, strict=True)
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1] < max(totals)
    assert {tuple(preview.shape) for preview in previews} == {(1, 4, HEIGHT, WIDTH)}
    torch.testing.assert_close(model.model.process_latent_out(previews[-1]), merged)


@pytest.mark.parametrize("mode", ["final", "every_step"])
@pytest.mark.parametrize("after", [0, 3])
def test_cancel_stops_within_one_call_and_the_next_run_is_whole(host, pack, after, mode):
    management, model, calls = host("model_management"), tiny.build_model(host), []

    def cancel(x, t):
        calls.append(len(x))
        if len(calls) == after + 1:
            management.interrupt_current_processing(True)

    _, expected, *_ = sample_regions(host, pack, model, tiny.text(), merge_mode=mode)
    with pytest.raises(management.InterruptProcessingException):
        sample_regions(host, pack, watched(host, model, cancel), tiny.text(), merge_mode=mode, tile_batch=2)
    assert len(calls) == after + 1
    assert not management.processing_interrupted()
    _, again, *_ = sample_regions(host, pack, model, tiny.text(), merge_mode=mode)
    assert torch.equal(again, expected)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("full"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=["device", "cpu"],
)
def test_out_of_memory_halves_the_batch_and_loses_nothing(host, pack, error):
    model = tiny.build_model(host)

    def refuse(x, t):
        if len(x) > 4:  # both conditionings of two tiles
            raise error

    _, expected, *_ = sample_regions(host, pack, model, tiny.text(), tile_batch=8)
    tiles, merged, *_ = sample_regions(host, pack, watched(host, model, refuse), tiny.text(), tile_batch=8)
    assert max(tiles.report.calls) == 2
    assert tiles.report.nfe == STEPS * tiles.grid.count
    assert differs(merged, expected) < TOLERANCE


def test_an_error_of_the_model_is_not_taken_for_a_lack_of_memory(host, pack):
    def fail(x, t):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        sample_regions(host, pack, watched(host, tiny.build_model(host), fail), tiny.text())


def test_nan_is_reported_with_its_tile(host, pack):
    def spoil(x, t):
        x[0] = torch.nan

    with pytest.raises(RuntimeError, match="NaN or infinity for tile"):
        sample_regions(host, pack, watched(host, tiny.build_model(host), spoil), tiny.text())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["cfg", "denoise"])
def test_a_number_that_is_none_is_named_and_blames_no_network(pack, name, value):
    """The host's ranges let NaN through; the network would have answered it with NaN."""
    settings = part("nodes.host.run").KSamplerSettings
    with pytest.raises(part("adadiffsr_core.errors").ConfigError, match=f"{name} must be"):
        settings(seed=2**64 - 1, steps=4, **{name: value})


def test_a_compute_mask_saves_calls_and_leaves_the_input_alone(host, pack):
    model, mask = tiny.build_model(host), torch.ones(1, HEIGHT * 8, WIDTH * 8)
    mask[:, :, : WIDTH * 4] = 0
    tiles, merged, latent, _ = sample_regions(host, pack, model, tiny.text(), compute_mask=mask)
    untouched = [tile for tile in tiles.report.tiles if tile.left + TILE <= WIDTH // 2]
    assert untouched
    assert {tile.nfe for tile in untouched} == {0}
    torch.testing.assert_close(merged[..., : WIDTH // 2], latent[..., : WIDTH // 2], rtol=0, atol=1e-5)


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


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({}, 64),
        ({"prediction": "v"}, 64),
        ({"prediction": "v", "context_dim": 1024}, 96),
        ({"context_dim": 1024}, 64),
        ({"latent_format": "SDXL"}, 128),
        ({"latent_format": "SD3"}, 128),
    ],
)
def test_tiles_have_the_size_the_model_was_trained_on(host, pack, fields, side):
    formats, base = host("latent_formats"), host("model_base")
    model = SimpleNamespace(
        latent_format=getattr(formats, fields.get("latent_format", "SD15"))(),
        model_type=base.ModelType.V_PREDICTION if "prediction" in fields else base.ModelType.EPS,
        model_config=SimpleNamespace(unet_config={"context_dim": fields.get("context_dim", 768)}),
    )
    assert pack("nodes.host.geometry").latent_sizes(model).trained == side


def test_the_tile_batch_comes_from_free_memory(host, pack, monkeypatch):
    geometry, model = pack("nodes.host.geometry"), tiny.build_model(host).model
    grid = pack("adadiffsr_core.sampling.tiles").build_grid(40, 40, 8, 0)

    def choose(free):
        monkeypatch.setattr(geometry.comfy.model_management, "get_free_memory", lambda device: free)
        return geometry.choose_tile_batch(model, torch.device("cpu"), grid, 1, 2)

    need = model.memory_required([2, 4, 8, 8]) * 1.5
    assert choose(0) == 1
    assert choose(need * 3 + 1) == 3
    assert choose(need * 1000) == geometry.LARGEST_BATCH


@pytest.fixture(scope="module")
def functions(host):
    """Every function of the host that sampling may touch, before a run."""
    names = ("samplers", "sample", "sampler_helpers", "model_base", "controlnet", "conds", "model_patcher", "sd")
    modules = [host(name) for name in (*names, "k_diffusion.sampling", "model_management", "utils", "hooks")]

    def snapshot():
        found = {}
        for module in modules:
            for owner in [module, *(value for value in vars(module).values() if isinstance(value, type))]:
                found |= {(id(owner), name): value for name, value in vars(owner).items() if callable(value)}
        return found

    return snapshot


def test_no_function_of_the_host_is_replaced(host, pack, functions):
    before = functions()
    sample_regions(host, pack, tiny.build_model(host), tiny.text(), **scattering(pack))
    after = functions()
    assert len(before) > 500
    assert [key[1] for key in before if after[key] is not before[key]] == []


def test_inputs_stay_as_they_were(host, pack):
    model, control = tiny.build_model(host), tiny.build_control(host)
    positive = tiny.with_control(tiny.text(), control, tiny.draw(1, 3, 88, 152, seed=3).sigmoid())
    applied, options = positive[0][1]["control"], repr(model.model_options)
    keys, hint = set(positive[0][1]), applied.cond_hint_original.clone()
    sample_regions(host, pack, model, positive)
    assert repr(model.model_options) == options
    assert set(positive[0][1]) == keys
    assert torch.equal(applied.cond_hint_original, hint)
    assert applied.cond_hint is None
