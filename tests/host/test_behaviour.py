"""What a run does to the host: progress, cancel, memory, and no function of it replaced."""

from types import SimpleNamespace

import pytest
import torch

from tests.host import tiny
from tests.host.nearness import TOLERANCE, differs
from tests.host.test_cropping import HEIGHT, STEPS, TILE, WIDTH, sample_regions, scattering, settings_of
from tests.host.test_equality import SEED


def watched(host, model, watch):
    """The model with `watch` called before each evaluation, as other packs' nodes do."""
    model = model.clone()

    def wrapper(executor, x, t, *args, **options):
        watch(x, t)
        return executor(x, t, *args, **options)

    model.add_wrapper_with_key(host("patcher_extension").WrappersMP.APPLY_MODEL, "watch", wrapper)
    return model


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


def test_a_compute_mask_saves_calls_and_leaves_the_input_alone(host, pack):
    model, mask = tiny.build_model(host), torch.ones(1, HEIGHT * 8, WIDTH * 8)
    mask[:, :, : WIDTH * 4] = 0
    tiles, merged, latent, _ = sample_regions(host, pack, model, tiny.text(), compute_mask=mask)
    untouched = [tile for tile in tiles.report.tiles if tile.left + TILE <= WIDTH // 2]
    assert untouched
    assert {tile.nfe for tile in untouched} == {0}
    torch.testing.assert_close(merged[..., : WIDTH // 2], latent[..., : WIDTH // 2], rtol=0, atol=1e-5)


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
