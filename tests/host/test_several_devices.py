"""The host's copies of a model for several devices, here two names of one processor: each gets its share of the tiles.

No GPU has run this: what it shows is who evaluates what, that the picture stays the same, and that failures end well.
"""

import threading
from collections import Counter

import pytest
import torch

from tests.host import tiny
from tests.host.nearness import TOLERANCE, differs
from tests.host.test_cropping import HEIGHT, WIDTH, sample_regions, scattering

SECOND = torch.device("cpu", 1)


@pytest.fixture(autouse=True)
def host_has_copies(host):
    if not hasattr(host("model_patcher").ModelPatcher, "deepclone_multigpu"):
        pytest.skip("this ComfyUI makes no copies for other devices")


def spread(model, build):
    """The model with a copy for a second device, as the host's MultiGPU CFG Split gives it."""
    model.cached_patcher_init = (build, ())
    model = model.clone()
    copied = model.deepclone_multigpu(SECOND)
    copied.is_multigpu_base_clone = True
    model.set_additional_models("multigpu", [copied])
    model.match_multigpu_clones()
    return model


def count(network, calls, name):
    """Note how many rows come to a network, and in which thread."""

    def note(module, given):
        calls.append((name, len(given[0]), threading.current_thread().name))

    network.register_forward_pre_hook(note)


def hooked(host):
    """A prompt that changes weights, from one noise level to the next."""
    hooks, state = host("hooks"), tiny.build_model(host).model_state_dict()
    hook = hooks.WeightHook(strength_model=1.0, strength_clip=1.0)
    hook.weights = {key: ("diff", (tiny.draw(*state[key].shape, seed=8) * 10,)) for key in state if "attn2.to_v" in key}
    hook.need_weight_init = False
    group, frames = hooks.HookGroup(), hooks.HookKeyframeGroup()
    group.add(hook)
    for place, strength in enumerate((1.0, 0.0, 2.0)):
        frames.add(hooks.HookKeyframe(strength, start_percent=place / 3))
    group.set_keyframes_on_hooks(frames)
    return tiny.text(0, hooks=group)


def run(host, pack, positive=None, build=None, **fields):
    """A picture by one device and by two, and what was evaluated where."""
    build = build or (lambda: tiny.build_model(host))
    positive = tiny.text() if positive is None else positive
    found = []
    for is_spread in (False, True):
        model, calls = build(), []
        if is_spread:
            model = spread(model, build)
            (other,) = model.get_additional_models_with_key("multigpu")
            assert other.model is not model.model
            count(other.model.diffusion_model, calls, "second")
        count(model.model.diffusion_model, calls, "first")
        tiles, merged, *_ = sample_regions(host, pack, model, positive, **fields)
        found.append((tiles, merged, calls))
    return found


def check_same(one, two):
    (tiles, merged, calls), (tiles_of_two, merged_by_two, calls_of_two) = one, two
    assert merged.std() > 0.1
    assert differs(merged_by_two, merged) < TOLERANCE
    assert [tile.nfe for tile in tiles.report.tiles] == [tile.nfe for tile in tiles_of_two.report.tiles]
    assert sum(rows for _, rows, _ in calls) == sum(rows for _, rows, _ in calls_of_two)


def rows_by_device(calls):
    rows = Counter()
    for name, count, _ in calls:
        rows[name] += count
    return rows


@pytest.mark.parametrize("tile_batch", [2, 3, 8])
def test_tiles_are_shared_out_and_the_picture_is_the_same(host, pack, tile_batch):
    one, two = run(host, pack, tile_batch=tile_batch)
    check_same(one, two)
    rows = rows_by_device(two[2])
    assert rows["first"] >= rows["second"] > 0.4 * rows["first"]
    threads = {name: {thread for who, _, thread in two[2] if who == name} for name in rows}
    assert not threads["first"] & threads["second"]


def test_tiles_that_part_ways_are_rated_alike(host, pack):
    check_same(*run(host, pack, **scattering(pack)))


def test_key_frames_of_weight_hooks_reach_every_device(host, pack):
    one, two = run(host, pack, hooked(host), **scattering(pack))
    check_same(one, two)
    plain, _ = run(host, pack, **scattering(pack))
    assert differs(one[1], plain[1]) > 10 * TOLERANCE


def test_controlnets_and_injection_are_those_of_the_device(host, pack):
    """The host gives its copy of a ControlNet; what is injected comes from the run's device."""
    nets = pack("adadiffsr_core.nets.pfj")
    pfj = pack("nodes.host.networks").entrust(tiny.randomise(nets.Pfj(nets.PfjConfig(channels=(32, 64)))))
    hint = tiny.draw(1, 3, HEIGHT * 8, WIDTH * 8, seed=3).sigmoid()
    control, seen = tiny.build_control(host), set()
    # The host's copies are deep, and have the hook too.
    control.control_model.register_forward_pre_hook(lambda module, _: seen.add(id(module)))
    whole = tiny.with_control(tiny.text(), control, hint, 0.9, 0.0, 0.7)
    one, two = run(host, pack, whole, pfj=pfj, pfj_strength=10.0)
    check_same(one, two)
    copies = whole[0][1]["control"].multigpu_clones
    assert copies.keys() == {SECOND}
    assert seen == {id(control.control_model), id(copies[SECOND].control_model)}


def test_area_prompts_masks_and_concatenated_latents(host, pack):
    mask = tiny.draw(1, HEIGHT, WIDTH, seed=4).sigmoid()
    prompts = tiny.text(0, area=(8, 11, 0, 8)) + tiny.text(1, mask=mask, mask_strength=0.8) + tiny.text(2)
    check_same(*run(host, pack, prompts))
    inpainting = {
        "concat_latent_image": tiny.draw(1, 4, HEIGHT, WIDTH, seed=4),
        "concat_mask": torch.ones(1, 1, 88, 152),
    }

    def build():
        model = tiny.build_model(host, in_channels=9)
        model.model.set_inpaint()
        return model

    check_same(*run(host, pack, tiny.text(0, **inpainting), build=build))


@pytest.mark.parametrize("failing", ["first", "second"])
def test_out_of_memory_on_one_device_halves_the_batch_and_loses_nothing(host, pack, failing):
    (_, expected, _), _ = run(host, pack)
    model = spread(tiny.build_model(host), lambda: tiny.build_model(host))
    (other,) = model.get_additional_models_with_key("multigpu")
    network = {"first": model, "second": other}[failing].model.diffusion_model
    sizes = []

    def refuse(module, given):
        sizes.append(len(given[0]))
        if len(given[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.register_forward_pre_hook(refuse)
    _, merged, *_ = sample_regions(host, pack, model, tiny.text(), tile_batch=8)
    assert max(sizes) > 4
    assert differs(merged, expected) < TOLERANCE


@pytest.mark.parametrize("failing", ["first", "second"])
def test_an_error_on_one_device_is_told_and_the_next_run_is_whole(host, pack, failing):
    (_, expected, _), _ = run(host, pack)
    model = spread(tiny.build_model(host), lambda: tiny.build_model(host))
    (other,) = model.get_additional_models_with_key("multigpu")

    def fail(module, given):
        raise ValueError("broken")

    hook = {"first": model, "second": other}[failing].model.diffusion_model.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="broken"):
        sample_regions(host, pack, model, tiny.text())
    hook.remove()
    assert differs(sample_regions(host, pack, model, tiny.text())[1], expected) < TOLERANCE


def test_a_single_tile_is_evaluated_by_the_runs_own_device(host, pack):
    one, two = run(host, pack, size=(8, 8))
    check_same(one, two)
    assert rows_by_device(two[2]).keys() == {"first"}


def test_the_batch_that_memory_allows_is_that_of_every_device(host, pack, monkeypatch):
    sampler = pack("nodes.host.sampler")
    monkeypatch.setattr(sampler, "choose_tile_batch", lambda model, device, *_: {None: 4, 1: 3}[device.index])
    _, two = run(host, pack)
    assert max(rows for *_, rows, _ in two[2]) == 2 * 3  # two conditionings, the smaller of both


def test_the_hosts_own_node_spreads_the_embedded_model(host, pack, monkeypatch):
    """From its list of devices to the picture, with the regressor and the injection that travel with the model."""
    monkeypatch.setattr(host("model_management"), "get_all_torch_devices", lambda **_: [torch.device("cpu"), SECOND])
    checkpoints, upscale = pack("nodes.host.checkpoints"), pack("nodes.upscale").UpscaleByRegions
    loaded = checkpoints.open_checkpoint(checkpoints.find_checkpoint(checkpoints.EMBEDDED))
    model = host("multigpu").create_multigpu_deepclones(loaded.model, 2)
    (other,) = model.get_additional_models_with_key("multigpu")
    photo, calls = tiny.draw(1, 80, 96, 3, seed=3).sigmoid(), []
    chosen = {"scale": 4.0, "seed": 3, "tile_size": 128, "likeness": 30.0}
    (expected, _) = upscale.execute(photo, **chosen, model=loaded.model, vae=loaded.vae).args
    count(model.model.diffusion_model, calls, "first")
    count(other.model.diffusion_model, calls, "second")
    (image, _) = upscale.execute(photo, **chosen, model=model, vae=loaded.vae).args
    rows = rows_by_device(calls)
    assert rows["first"] >= rows["second"] > 0.4 * rows["first"]
    assert (image - expected).abs().max() < 0.5 / 255
