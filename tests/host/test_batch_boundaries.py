"""Batches of tiles at different steps never straddle what changes on the way: prompts, a node's sigmas, key frames."""

import importlib
from types import SimpleNamespace

from tests.host import tiny
from tests.host.nearness import TOLERANCE, differs
from tests.host.test_cropping import sample_regions, scattering


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
