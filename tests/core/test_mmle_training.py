"""MMLE's training: walks, targets, the task, its figures and command, and the estimator that is its teacher."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adadiffsr_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.cli import main
from adadiffsr_core.codebook import build_codebook
from adadiffsr_core.commands.train import mmle as train_mmle
from adadiffsr_core.controller import DtssConfig
from adadiffsr_core.denoiser import UNetDenoiser
from adadiffsr_core.errors import ConfigError, DenoiserError, ShapeError
from adadiffsr_core.evaluation.agreement import compare_classes, compare_metrics, spearman
from adadiffsr_core.gain import high_frequencies
from adadiffsr_core.iqa_estimator import IqaEstimator
from adadiffsr_core.metrics.base import CheckedMetric, normalise_metrics, normalise_quality
from adadiffsr_core.metrics.registry import create_metric, metric_info
from adadiffsr_core.mmle_estimator import metrics_to_quality
from adadiffsr_core.nets.mmle import MmleConfig
from adadiffsr_core.networks import load_mmle
from adadiffsr_core.noise import FIELD_INDEX, StepNoise
from adadiffsr_core.pipeline import PRESETS, SamplingConfig, sample_latent
from adadiffsr_core.tiles import build_grid
from adadiffsr_core.training.dataset import PairConfig, PairDataset, PhotoSplit, find_images, split_photos
from adadiffsr_core.training.loop import LoopConfig, Run
from adadiffsr_core.training.mmle import MmleTask, MmleTaskConfig, RatedWalks, choose_metrics, fit_range
from adadiffsr_core.training.recipe import MmleRecipe, read_recipe
from adadiffsr_core.training.state import load_state
from adadiffsr_core.training.targets import measure_targets
from adadiffsr_core.training.teaching import LEAST_PHOTOS, describe_figures, prepare_mmle, split_few
from adadiffsr_core.training.walked_model import OwnModel, claim_model, probe_model
from adadiffsr_core.training.walks import WalkCache, WalkConfig, build_walks, draw_path, walk_tiles
from tests import oracles

NET = MmleConfig(
    widths=(8, 8), hidden=8, fr_metrics=("psnr",), nr_metrics=("brisque",), fr_weights=(1.0,), nr_weights=(1.0,),
    worst=(0.0, 100.0), best=(50.0, 0.0),
)  # fmt: skip
WALK = WalkConfig(visits=8, batch_size=2)
STEPS = PRESETS["everyday"].steps


def blur_rating(image, reference):
    """A stand-in for a no-reference metric; what no test may take for a measurement."""
    return 100 - 1000 * high_frequencies(image).square().mean(dim=(1, 2, 3))


BLUR = CheckedMetric(metric_info("brisque"), blur_rating, 8, torch.device("cpu"))
METRICS = {"psnr": create_metric("psnr"), "brisque": BLUR}


def save_photos(folder, count=4, side=96):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(folder / f"photo{index}.png")
    return find_images([folder])


@pytest.fixture(scope="module")
def model():
    return oracles.tiny_model()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def walks(tmp_path_factory, photos, model):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5)
    return build_walks(tmp_path_factory.mktemp("walks"), dataset, OwnModel(model), WALK, seed=3)


# ---- walks


@given(st.data())
def test_a_path_goes_from_the_noisiest_level_to_the_end(data):
    largest = data.draw(st.integers(1, 5))
    visits = data.draw(st.integers(1, 30))
    steps = data.draw(st.integers(visits, visits * largest))
    path = draw_path(np.random.default_rng(data.draw(st.integers(0, 99))), steps, visits, largest)
    assert (path[0], path[-1], len(path)) == (0, steps, visits + 1)
    assert set(np.diff(path)) <= set(range(1, largest + 1))


def test_every_interval_occurs_at_every_visit():
    rng = np.random.default_rng(0)
    intervals = np.stack([np.diff(draw_path(rng, 24, 10, 4)) for _ in range(800)])
    for place in range(10):
        counts = Counter(intervals[:, place].tolist())
        assert all(0.1 < counts[interval] / 800 < 0.45 for interval in (1, 2, 3, 4)), counts


def test_a_walk_is_the_reference_sampler_on_the_levels_it_visits(walks, model):
    """DPM-Solver++(2M) written plainly, on the sub-schedule."""
    sigmas = model.schedule.build_sigmas(STEPS)
    grid = build_grid(8, 8, 8, 0)
    noise = StepNoise(3, grid, 4)
    for walk in (0, 3):
        lq_latent = torch.from_numpy(walks.lq_latent[[walk]].astype(np.float32))
        levels = [*walks.sigma[walk].tolist(), 0.0]
        denoiser, seen = UNetDenoiser(model.unet, model.schedule, lq_latent, grid), []

        def denoise(x, sigma, denoiser=denoiser, seen=seen):
            with torch.no_grad():
                seen.append(denoiser(x, torch.tensor([sigma]), [0], None))
            return seen[-1]

        assert torch.equal(sigmas[torch.from_numpy(walks.index[walk].copy())], torch.tensor(levels[:-1]))
        x = model.schedule.start(lq_latent, noise([walk], torch.tensor([FIELD_INDEX])), levels[0]).double()
        oracles.dpmpp_2m(denoise, x, levels, lambda step: None)
        stored = torch.from_numpy(walks.denoised[walk].astype(np.float32))
        torch.testing.assert_close(stored, torch.cat(seen).float(), rtol=2e-3, atol=2e-3)


def test_walks_differ_in_path_noise_and_picture(walks):
    assert walks.count == 5
    assert len({tuple(path) for path in walks.index.tolist()}) > 2
    assert len({walk.tobytes() for walk in walks.denoised}) == 5
    assert walks.denoised.shape == (5, 8, 4, 8, 8)
    assert (walks.gt.shape, walks.gt.dtype) == ((5, 3, 64, 64), np.uint8)


def test_a_stochastic_solver_gets_noise_keyed_by_the_walk(model):
    codebook, grid = build_codebook(model.schedule.build_sigmas(4), "euler_ancestral"), build_grid(8, 8, 8, 0)
    lq_latent, x = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    paths, noise = torch.tensor([[0, 1, 3, 4], [0, 2, 3, 4]]), StepNoise(1, grid, 4)

    def walk(rows):
        denoise = UNetDenoiser(model.unet, model.schedule, lq_latent[rows], grid)
        return walk_tiles(denoise, codebook, x[rows], paths[rows], [row + 7 for row in rows], noise)

    with torch.no_grad():
        together, alone = walk([0, 1]), walk([1])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def test_a_stopped_cache_of_walks_equals_one_made_at_a_stretch(tmp_path, photos, model, walks, monkeypatch):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5)
    asked, draw = [], PairDataset.__getitem__

    def dying(self, index):
        asked.append(index)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return draw(self, index)

    monkeypatch.setattr(PairDataset, "__getitem__", dying)
    with pytest.raises(KeyboardInterrupt):
        build_walks(tmp_path, dataset, OwnModel(model), WALK, seed=3)
    build_walks(tmp_path, dataset, OwnModel(model), WALK, seed=3)
    assert asked == [0, 1, 2, 3, 2, 3, 4]
    for path in walks.folder.glob("*.npy"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"visits": 1}, "between 2 and 24"), ({"visits": 25}, "between 2 and 24"), ({"preset": "fast"}, "unknown"),
     ({"batch_size": 0}, "batch_size"), ({"preset": "paper"}, "between 50 and 200")],
)  # fmt: skip
def test_walks_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        WalkConfig(**settings)


def test_a_walk_may_jump_as_far_as_a_tiles_first_jump():
    """So that estimates after it, too, are among those that a regressor learns from."""
    dtss = PRESETS["everyday"].dtss
    assert WALK.largest_interval == max(dtss.intervals[-1], round(dtss.first_jump * STEPS)) == 12
    assert WalkConfig(preset="paper", visits=60).largest_interval == PRESETS["paper"].dtss.intervals[-1]
    rng = np.random.default_rng(0)
    longest = [np.diff(draw_path(rng, STEPS, WALK.visits, WALK.largest_interval)).max() for _ in range(800)]
    assert max(longest) == 12


# ---- targets


def decode_by_hand(model, latents):
    return model.decode(torch.from_numpy(np.asarray(latents, dtype=np.float32)))


@pytest.mark.parametrize("reference", ["lq", "gt"])
def test_targets_are_the_metrics_of_decoded_estimates(walks, model, reference):
    values = measure_targets(walks, METRICS, reference, model.decode)
    assert values.shape == (5, 8, 2)
    for walk, visit in ((0, 0), (2, 5), (4, 7)):
        image = decode_by_hand(model, walks.denoised[walk, [visit]])
        truth = decode_by_hand(model, walks.lq_latent[[walk]])
        if reference == "gt":
            truth = torch.from_numpy(walks.gt[[walk]]).float() / 255
        by_hand = [float(metric(image, truth)) for metric in METRICS.values()]
        np.testing.assert_allclose(values[walk, visit], by_hand, rtol=1e-4)
    assert np.array_equal(values, measure_targets(walks, METRICS, reference, None))  # all from the disk


def counting(metric, seen):
    def compute(image, reference):
        seen.append(metric.info.name)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return metric.compute(image, reference)

    return replace(metric, compute=compute)


def test_measuring_goes_on_where_it_stopped_and_metrics_can_be_added(tmp_path, photos, model, walks):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5)
    again, seen = build_walks(tmp_path, dataset, OwnModel(model), WALK, seed=3), []
    metrics = {name: counting(metric, seen) for name, metric in METRICS.items()}
    only_psnr = {"psnr": metrics["psnr"]}
    with pytest.raises(KeyboardInterrupt):
        measure_targets(again, only_psnr, "lq", model.decode)
    values = measure_targets(again, metrics, "lq", model.decode)
    assert seen == ["psnr"] * 5 + ["brisque"] * 4 + ["psnr", "brisque"]
    assert np.array_equal(values, measure_targets(walks, METRICS, "lq", model.decode))
    measure_targets(again, metrics, "gt", model.decode)
    assert Counter(seen) == {"psnr": 11, "brisque": 5}  # no-reference values do not depend on the reference


def test_one_truth_for_many_pictures_is_looked_at_once():
    pytest.importorskip("stlpips_pytorch", reason="the extra `iqa` is not installed")
    from adadiffsr_core.metrics.st_lpips import StLpips

    metric = StLpips()
    image, truth = torch.rand(3, 3, 48, 48), torch.rand(1, 3, 48, 48)
    seen, features = [], metric.features
    metric.features = lambda picture: (seen.append(len(picture)), features(picture))[1]
    shared = metric(image, truth.expand(3, -1, -1, -1))
    assert seen == [3, 1]
    torch.testing.assert_close(shared, metric(image, truth.repeat(3, 1, 1, 1)))


# ---- the range


def rate(walks, values):
    return RatedWalks(walks, np.asarray(values, dtype=np.float32))


def test_the_range_is_that_of_the_measured_values(walks):
    rng = np.random.default_rng(0)
    values = rng.uniform((20, 30), (30, 80), (5, 8, 2))
    values[4, 3, 1] = np.nan
    values[4, 5, 0] = 1e6  # of a walk that is left out
    walks = rate(walks, values)
    assert walks.usable.tolist() == [0, 1, 2, 3]
    fitted = fit_range(NET, walks)
    psnr, brisque = values[:4, :, 0], values[:4, :, 1]
    assert fitted.worst == pytest.approx((np.percentile(psnr, 1), np.percentile(brisque, 99)), rel=1e-5)
    assert fitted.best == pytest.approx((np.percentile(psnr, 99), np.percentile(brisque, 1)), rel=1e-5)
    with pytest.raises(ConfigError, match="no walk"):
        fit_range(NET, rate(walks.cache, np.full((5, 8, 2), np.nan)))
    with pytest.raises(ConfigError, match="differ"):
        fit_range(NET, rate(walks.cache, np.ones((5, 8, 2))))


def test_metrics_are_chosen_by_name():
    chosen = MmleConfig.from_dict(choose_metrics(("niqe", "psnr", "brisque", "nlpd")))
    assert (chosen.fr_metrics, chosen.nr_metrics) == (("psnr", "nlpd"), ("niqe", "brisque"))
    assert (chosen.worst, chosen.best) == ((0, 1, 20, 100), (50, 0, 0, 0))
    with pytest.raises(ConfigError, match="no metric sharpness"):
        choose_metrics(("psnr", "sharpness"))
    with pytest.raises(ConfigError, match="nr_metrics"):
        MmleConfig.from_dict(choose_metrics(("psnr",)))


def test_normalising_many_metrics_is_normalising_each():
    values = torch.tensor([[25.0, 40.0], [60.0, -3.0], [math.nan, 10.0]])
    together = normalise_metrics(values, NET.worst, NET.best)
    for place, name in enumerate(NET.metrics):
        each = normalise_quality(values[:, place], metric_info(name))
        torch.testing.assert_close(together[:, place], each, equal_nan=True)


# ---- the task


def made_up(folder, count, seed):
    """Walks whose metrics follow from their latents in a plain way."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    index = np.stack([draw_path(rng, STEPS, 8, 4)[:-1] for _ in range(count)])
    lq = rng.standard_normal((count, 4, 8, 8)) * rng.uniform(0.5, 1.5, (count, 1, 1, 1))
    away = rng.uniform(0.2, 1, (count, 1)) * index / STEPS + 0.1
    denoised = lq[:, None] + rng.standard_normal((count, 8, 4, 8, 8)) * away[..., None, None, None]
    arrays = {
        "denoised": denoised.astype(np.float16), "lq_latent": lq.astype(np.float16), "index": index,
        "gt": np.zeros((count, 3, 8, 8), np.uint8), "sigma": np.exp(2 - index / 4).astype(np.float32),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "progress.json").write_text(json.dumps({"done": count}))
    psnr = 20 - 10 * np.log10((denoised - lq[:, None]).__pow__(2).mean(axis=(2, 3, 4)))
    brisque = 60 - 20 * np.log10((denoised**2).mean(axis=(2, 3, 4)))
    return RatedWalks(WalkCache(folder), np.stack([psnr, brisque], axis=-1).astype(np.float32))


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    return made_up(folder / "walks", 60, 0), made_up(folder / "held_out", 12, 1)


def make_task(rated, **settings):
    config = MmleTaskConfig(**{"batch_size": 16, **settings})
    return MmleTask(NET, config, *rated, PRESETS["everyday"], seed=5, bfloat16=False, facts={"reference": "lq"})


def loop(steps):
    return LoopConfig(
        steps=steps, warmup_steps=5, decay_steps=steps // 2, check_every=10**6, save_every=10**6, learning_rate=5e-3,
        ema_decay=0.9, bfloat16=False,
    )  # fmt: skip


def test_it_learns_and_what_it_exports_loads(rated, tmp_path):
    run = Run(make_task(rated), loop(400), tmp_path)
    before = run.task.check(run.task.networks)
    run.train()
    figures = run.check()
    assert figures["psnr"] > 0.75 > abs(before["psnr"]) + 0.2
    assert figures["brisque"] > 0.75
    assert figures["loss"] < before["loss"] / 3
    checkpoint = load_checkpoint(tmp_path / "weights.safetensors", "mmle")
    assert checkpoint.facts["reference"] == "lq"
    assert checkpoint.facts["steps"] == 400
    assert checkpoint.facts["held_out"]["psnr"] == pytest.approx(figures["psnr"], abs=1e-3)
    mmle = load_mmle(tmp_path / "weights.safetensors")
    assert mmle.config == fit_range(NET, rated[0])
    cache = rated[1].cache
    latents = [torch.from_numpy(latent.astype(np.float32)) for latent in (cache.denoised[:, 3], cache.lq_latent)]
    predicted, true, index = run.task.rate_held_out(run.average)
    near = mmle(*latents, torch.from_numpy(cache.sigma[:, 3].copy()))
    torch.testing.assert_close(near, predicted[:, 3], rtol=0, atol=5e-3)  # the file holds float16
    expected = normalise_metrics(torch.from_numpy(rated[1].values), mmle.config.worst, mmle.config.best)
    assert torch.equal(true, expected)
    assert torch.equal(index, torch.from_numpy(cache.index.copy()))


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(rated, tmp_path):
    Run(make_task(rated), loop(6), tmp_path / "whole").train()
    half = Run(make_task(rated), loop(6), tmp_path / "parts")

    def die(step, turns=half.task.turns):
        if step == 3:
            half.save()
            raise RuntimeError("the power fails")
        return turns(step)

    half.task.turns = die
    with pytest.raises(RuntimeError, match="power"):
        half.train()
    Run(make_task(rated), loop(6), tmp_path / "parts").train()
    whole, parts = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "parts"))
    assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []
    start = make_task(rated).networks["mmle"].state_dict()
    assert not [key for key, value in start.items() if torch.equal(whole[f"network.mmle.{key}"], value)]


def losses_of(task, step=0):
    return {name: float(value.detach()) for name, value in next(iter(task.turns(step)))[1].items()}


def test_the_loss_is_that_of_values_and_of_changes_within_a_walk(rated):
    """Of a regressor that always says 0.5, by hand from the targets."""
    task = make_task(rated, change_weight=3.0, turned=False)
    for parameter in task.networks["mmle"].parameters():
        parameter.data.zero_()
    shown = []
    predict = task._predict
    task._predict = lambda mmle, *rows: (shown.append(rows), predict(mmle, *rows))[1]
    losses = losses_of(task)
    (denoised, lq_latent, sigma), cache = shown[0], rated[0].cache
    true = normalise_metrics(torch.from_numpy(rated[0].values), task.net.worst, task.net.best)
    first, second = [], []
    for row in range(16):
        walk = next(n for n in range(60) if np.array_equal(cache.lq_latent[n], lq_latent[row, 0].half().numpy()))
        visit = cache.sigma[walk].tolist().index(float(sigma[row, 0]))
        assert np.array_equal(cache.denoised[walk, visit : visit + 2], denoised[row].half().numpy())
        first.append(true[walk, visit])
        second.append(true[walk, visit + 1])
    first, second = torch.stack(first), torch.stack(second)
    value = float((first - 0.5).square().mean() + (second - 0.5).square().mean()) / 2
    change = float((second - first).square().mean())
    assert losses == pytest.approx({"value": value, "change": change, "total": value + 3 * change}, rel=1e-4)
    assert len({row.numpy().tobytes() for row in lq_latent[:, 0]}) == 16  # each pair of a walk of its own
    assert losses != losses_of(task, step=1)


def test_turning_is_the_same_for_both_latents_and_all_eight_occur(rated):
    task, shown = make_task(rated), []
    task._predict = lambda mmle, *rows: (shown.append(rows), torch.zeros(*rows[2].shape, 2, requires_grad=True))[1]
    for step in range(40):
        next(iter(task.turns(step)))
    cache, found = rated[0].cache, set()
    for denoised, lq_latent, sigma in shown:
        wanted = (denoised[0].half().numpy(), lq_latent[0, 0].half().numpy())
        for orientation in range(8):
            back = [np.flip(part, -1) if orientation >= 4 else part for part in wanted]
            back = [np.rot90(part, -(orientation % 4), axes=(-2, -1)) for part in back]
            for walk in range(60):
                if np.array_equal(cache.lq_latent[walk], back[1]):
                    visit = cache.sigma[walk].tolist().index(float(sigma[0, 0]))
                    assert np.array_equal(cache.denoised[walk, visit : visit + 2], back[0])
                    found.add(orientation)
    assert found == set(range(8))


def test_bfloat16_spares_the_head(rated):
    task = make_task(rated)
    task.bfloat16 = True
    predicted, _, _ = task.rate_held_out(task.networks)
    assert predicted.dtype == torch.float32
    assert (predicted != predicted.bfloat16().float()).float().mean() > 0.9


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"change_weight": -1.0}, {"change_weight": math.inf}])
def test_odd_tasks_are_refused(settings):
    with pytest.raises(ConfigError, match="batch_size"):
        MmleTaskConfig(**settings)


# ---- agreement


def test_spearman_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    first, second = torch.from_numpy(rng.integers(0, 9, (2, 200)))
    assert spearman(first, first + second) == pytest.approx(stats.spearmanr(first, first + second).statistic)
    assert spearman(first, first.exp()) == pytest.approx(1)
    assert spearman(first, -first) == pytest.approx(-1)
    assert math.isnan(spearman(first, torch.ones(200)))


def draw_truth(walks=6):
    rng = np.random.default_rng(2)
    index = torch.from_numpy(np.stack([draw_path(rng, STEPS, 8, 4)[:-1] for _ in range(walks)]))
    return torch.from_numpy(rng.uniform(0, 1, (walks, 8, 2)).astype(np.float32)), index


def test_who_is_right_agrees_and_noise_in_the_first_half_does_not_count_for_nr():
    true, index = draw_truth()
    figures = compare_metrics(true, true, index, NET, STEPS)
    assert figures.keys() == {name + end for name in NET.metrics for end in ("", ".within", ".change")}
    assert all(value == pytest.approx(1) for value in figures.values())
    early = true.clone()
    early[index < STEPS / 2] = torch.rand_like(early[index < STEPS / 2])
    figures = compare_metrics(early, true, index, NET, STEPS)
    assert figures["brisque"] == pytest.approx(1)
    assert figures["brisque.within"] == pytest.approx(1)
    assert figures["psnr"] < 0.9


def test_an_offset_per_walk_spoils_the_whole_but_neither_within_nor_change():
    true, index = draw_truth(12)
    moved = (
        true + torch.linspace(0, 5, 12)[torch.randperm(12, generator=torch.Generator().manual_seed(0))][:, None, None]
    )
    figures = compare_metrics(moved, true, index, NET, STEPS)
    assert figures["psnr"] < 0.5
    assert figures["psnr.within"] == pytest.approx(1)
    assert figures["psnr.change"] > 0.999


def test_classes_agree_as_the_controller_would_choose_them():
    """Three walks of three visits by hand; the third differs at its last visit."""
    dtss = DtssConfig(gain_threshold=0.01, nr_from=0.5, early_exit=True)
    index = torch.tensor([[0, 12, 14]] * 3)
    true = torch.tensor([
        [[0.5, 0.5], [0.9, 0.9], [0.5, 0.95]],  # NR counts from 12 on: growing, growing
        [[0.5, 0.5], [0.5, 0.9], [0.9, 0.5]],  # FR does not move: stable; then NR falls: saturated
        [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9]],  # stable, stable
    ])  # fmt: skip
    guess = true.clone()
    guess[2, 2] = torch.tensor([0.5, 0.9])  # growing
    figures = compare_classes(guess, true, index, NET, dtss, 24)
    assert figures == pytest.approx(
        {"class_agreement": 5 / 6, "class_agreement.open": 5 / 6, "commonest_class.open": 3 / 6}
    )
    late = compare_classes(guess, true, index, NET, replace(dtss, nr_from=13 / 24), 24)
    # Visits at 12 are stable by rule; open are growing, saturated, stable.
    assert late == pytest.approx(
        {"class_agreement": 5 / 6, "class_agreement.open": 2 / 3, "commonest_class.open": 1 / 3}
    )
    lasting = compare_classes(guess, true, index, NET, replace(dtss, early_exit=False), 24)
    assert lasting["commonest_class.open"] == pytest.approx(3 / 6)  # growing, growing, and what was saturated
    never = compare_classes(guess, true, index, NET, replace(dtss, nr_from=1.0), 24)
    assert never["class_agreement"] == 1
    assert math.isnan(never["class_agreement.open"])


def test_progress_counts_every_walk_once_and_first_what_was_there(tmp_path, photos, model, walks):
    dataset, told = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5), []

    def stop(more):
        told.append(more)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_walks(tmp_path, dataset, OwnModel(model), WALK, 3, stop)
    assert told == [0, 2, 2]
    cache = build_walks(tmp_path, dataset, OwnModel(model), WALK, 3, told.append)
    assert told[3:] == [4, 1]  # what was whole when it was stopped is not made again
    told.clear()
    with pytest.raises(KeyboardInterrupt):
        measure_targets(cache, METRICS, "lq", model.decode, stop)
    measure_targets(cache, METRICS, "lq", model.decode, told.append)
    assert told == [0, 1, 1, 2, 1, 1, 1]
    for path in walks.folder.glob("*.npy"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_network_that_breaks_is_named_and_leaves_the_cache_whole(tmp_path, photos, model):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=2)
    broken = oracles.tiny_model()
    next(broken.unet.parameters()).data.fill_(math.nan)
    with pytest.raises(DenoiserError, match="full precision"):
        build_walks(tmp_path, dataset, OwnModel(broken), WALK, 3)
    with pytest.raises(ConfigError, match="full precision"):
        probe_model(OwnModel(broken), WALK.sampling, 64)
    assert build_walks(tmp_path, dataset, OwnModel(model), WALK, 3).count == 2


# ---- which model it was


def test_a_model_is_told_by_what_it_does(tmp_path, model):
    probe = probe_model(OwnModel(model), WALK.sampling, 64)
    assert probe == probe_model(OwnModel(oracles.tiny_model()), WALK.sampling, 64)
    claim_model(tmp_path, probe)
    largest = max(map(abs, probe))
    claim_model(tmp_path, [value + 0.009 * largest for value in probe])  # as other precisions may differ
    other = oracles.tiny_model()
    for parameter in other.unet.parameters():
        parameter.data *= 1.1
    for different in (probe_model(OwnModel(other), WALK.sampling, 64), probe[:-1]):
        with pytest.raises(ConfigError, match="another model, VAE or prompt"):
            claim_model(tmp_path, different)


def test_latents_of_another_autoencoder_are_refused(model):
    class Mismatched(OwnModel):
        def encode(self, image):
            return super().encode(image)[:, :, ::2]

    with pytest.raises(ConfigError, match=r"latents of \[4, 4, 8\] from 64 px where the model works on \[4, 8, 8\]"):
        probe_model(Mismatched(model), WALK.sampling, 64)


# ---- from photographs to a task


def test_a_small_collection_has_something_on_either_side(tmp_path):
    for count in range(LEAST_PHOTOS, 12):
        photos = save_photos(tmp_path / str(count), count, side=16)
        share, split = split_few(photos, 0.05)
        assert min(len(split.train), len(split.held_out)) > 0
        assert sorted(split.train + split.held_out) == photos
        assert split == split_photos(photos, share)
    many = [Path(f"photo{number}.png") for number in range(200)]
    assert split_few(many, 0.05)[0] == 0.05
    with pytest.raises(ConfigError, match="3 photographs and at least 4"):
        split_few(photos[:3], 0.05)
    (photos[0].parent / "SOURCES.tsv").write_text("crop\tphoto\n" + "".join(f"{path.name}\tone\n" for path in photos))
    with pytest.raises(ConfigError, match="of one photograph"):
        split_few(photos, 0.05)


def test_tiles_too_small_for_a_metric_are_refused_before_any_walk(tmp_path, photos, model):
    recipe = MmleRecipe.from_dict(read_recipe("mmle", None, {}, {}, data={"size_px": 64}))
    picky = {**METRICS, "brisque": replace(BLUR, min_side=96)}
    with pytest.raises(ShapeError, match="at least 96 px"):
        prepare_mmle(recipe, OwnModel(model), picky, PhotoSplit(photos, photos), tmp_path, {}, "tiny")
    assert not list(tmp_path.iterdir())


def test_photographs_without_a_defined_metric_to_measure_on_are_refused(tmp_path, photos, model):
    undefined = replace(BLUR, compute=lambda image, reference: torch.full((len(image),), math.nan))
    recipe = MmleRecipe.from_dict(
        read_recipe("mmle", None, {}, {}, data={"size_px": 64}, walk={"visits": 7}, walks=1, held_out=1)
    )
    split = PhotoSplit(photos, photos)
    with pytest.raises(ConfigError, match="no held-out walk"):
        prepare_mmle(recipe, OwnModel(model), {**METRICS, "brisque": undefined}, split, tmp_path, {}, "tiny")


def test_figures_in_words(rated):
    task = make_task(rated)
    lines = describe_figures(task.check(task.networks) | {"psnr.change": math.nan}, NET.metrics).splitlines()
    assert [line.partition(":")[0] for line in lines[1:3]] == ["psnr", "brisque"]
    assert lines[1].endswith("unknown of its changes")
    assert "agrees in 0." in lines[3]


# ---- the teacher as an estimator


def test_the_iqa_estimator_is_equation_2_on_decoded_pictures(model):
    config = replace(NET, worst=(5.0, 100.0), best=(30.0, 0.0))
    denoised, lq_latent = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    estimator = IqaEstimator(model.decode, list(METRICS.values()), config)
    quality = estimator.quality(denoised, lq_latent, torch.ones(3))
    image, reference = model.decode(denoised), model.decode(lq_latent)
    full = (-10 * (image - reference).square().mean(dim=(1, 2, 3)).log10() - 5) / 25
    none = (100 - blur_rating(image, None)) / 100
    torch.testing.assert_close(quality, torch.stack([full, none], dim=1).clamp(0, 1))
    assert (quality.dtype, quality.shape) == (torch.float32, (3, 2))


def test_it_rates_as_the_targets_do(walks, model):
    """The regressor's teacher in training is the teacher at sampling time."""
    values = torch.from_numpy(measure_targets(walks, METRICS, "lq", model.decode))
    config = fit_range(NET, RatedWalks(walks, values.numpy()))
    estimator = IqaEstimator(model.decode, list(METRICS.values()), config)
    denoised, lq_latent = (
        torch.from_numpy(part.astype(np.float32)) for part in (walks.denoised[:, 4], walks.lq_latent)
    )
    expected = metrics_to_quality(normalise_metrics(values[:, 4], config.worst, config.best), config)
    quality = estimator.quality(denoised, lq_latent, torch.ones(5))
    torch.testing.assert_close(quality, expected, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_rated_has_no_gain_and_other_metrics_are_refused(model):
    undefined = replace(BLUR, compute=lambda image, reference: torch.full((len(image),), math.nan))
    estimator = IqaEstimator(model.decode, [METRICS["psnr"], undefined], NET)
    latents = torch.randn(2, 2, 4, 8, 8)
    assert (estimator.quality(*latents, torch.ones(2))[:, 1] == 0).all()
    with pytest.raises(ConfigError, match="must be psnr, brisque"):
        IqaEstimator(model.decode, [BLUR, METRICS["psnr"]], NET)


def test_it_drives_the_sampler(model):
    estimator = IqaEstimator(model.decode, list(METRICS.values()), NET)
    config = SamplingConfig(steps=8, tile=8, overlap=2, tile_fit=False, dtss=DtssConfig(gain_threshold=1e-5))
    lq_latent = torch.randn(1, 4, 8, 14, generator=torch.Generator().manual_seed(0))
    _, report, _ = sample_latent(model, lq_latent, config, estimator=estimator)
    gains = [step.nr_gain for tile in report.tiles for step in tile.steps]
    assert max(map(abs, gains)) > 0


# ---- the command


SECTIONS = {
    "loop": {"steps": 2, "check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "net": {"widths": [8], "hidden": 4},
    "task": {"batch_size": 2},
    "data": {"size_px": 64, "min_scale": 1.0},
    "walk": {"visits": 7, "batch_size": 2},
    "walks": 3,
    "held_out": 3,
    "holdout": 0.4,
}


@pytest.fixture
def project(tmp_path, model, monkeypatch):
    save_photos(tmp_path / "data", count=6)
    tensors = {f"model.diffusion_model.{key}": value for key, value in model.unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in model.autoencoder.state_dict().items()}
    config = {
        "unet": model.unet.config.to_dict(),
        "autoencoder": model.autoencoder.config.to_dict(),
        "schedule": {"prediction": "v"},
    }
    save_checkpoint(Checkpoint("ldm", config, tensors), tmp_path / "model.safetensors")
    (tmp_path / "mmle.json").write_text(json.dumps(SECTIONS))
    monkeypatch.setattr(train_mmle, "create_metric", lambda name, weights_folder: METRICS[name])
    return tmp_path


def words(folder, *more):
    return [
        "train", "mmle", str(folder / "data"), "--run", str(folder / "run"), "--config", str(folder / "mmle.json"),
        "--model", str(folder / "model.safetensors"), "--metrics", "brisque,psnr", "--threads", "1", *map(str, more),
    ]  # fmt: skip


def test_a_regressor_is_trained_by_command_and_goes_on(project, capsys):
    assert main(words(project)) == 0
    assert capsys.readouterr().out == f"{project / 'run' / 'weights.safetensors'}: mmle after 2 steps\n"
    checkpoint = load_checkpoint(project / "run" / "weights.safetensors", "mmle")
    assert checkpoint.facts["walks"] == 3
    assert checkpoint.facts["reference"] == "lq"
    assert "class_agreement" in checkpoint.facts["held_out"]
    assert load_mmle(project / "run" / "weights.safetensors").config.metrics == ("psnr", "brisque")
    assert {path.name for path in (project / "run").iterdir()} == {
        "held_out", "walks", "losses.png", "origin.json", "recipe.json", "sheet-0000002.png", "state.safetensors",
        "weights.safetensors",
    }  # fmt: skip
    assert main(words(project, "--steps", 3)) == 0
    assert load_state(project / "run" / "state.safetensors")[1]["step"] == 3
    # another run on the same walks, taught by the truth; then what does not fit the walks
    other = ["--run", project / "other", "--cache", project / "run"]
    assert main(words(project, *other, "--reference", "gt")) == 0
    assert load_checkpoint(project / "other" / "weights.safetensors").facts["reference"] == "gt"
    assert {path.name for path in (project / "run" / "walks" / "targets").iterdir()} == {
        "psnr-lq", "psnr-gt", "brisque"
    }  # fmt: skip
    capsys.readouterr()
    for more, sentence in (
        (["--seed", 9], "was made with other settings"),
        (["--metrics", "psnr"], "nr_metrics"),
        (["--metrics", "sharpness"], "no metric sharpness"),
        (["--reference", "none"], "invalid choice"),
        (["--model", project / "absent"], "does not exist"),
    ):
        assert main(words(project, *more)) == 2
        assert sentence in capsys.readouterr().err
    (project / "mmle.json").write_text(json.dumps(SECTIONS | {"data": {"size_px": 60}}))
    assert main(words(project)) == 2
    assert "size_px 60 is not a multiple of 16" in capsys.readouterr().err


def test_the_shipped_recipe_is_whole():
    recipe = MmleRecipe.from_dict(read_recipe("mmle", None, {}, {}))
    assert recipe.net.metrics == ("psnr", "st_lpips", "vsi", "nlpd", "brisque", "niqe")
    assert (recipe.reference, recipe.walk.sampling) == ("lq", PRESETS["everyday"])
    assert recipe.data.size_px >= 192  # NIQE's least
    assert MmleRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for change, sentence in (({"walks": 0}, "walks"), ({"reference": "hq"}, "reference")):
        with pytest.raises(ConfigError, match=sentence):
            MmleRecipe.from_dict({**recipe.to_dict(), **change})
