"""MMLE's training: the range, the task, and from photographs to a task."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adadiffsr_core.data.dataset import PhotoSplit, split_photos
from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.metrics.base import normalise_metrics
from adadiffsr_core.metrics.registry import metric_info
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.networks import load_mmle
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.mmle import MmleConfig
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.loop.loop import LoopConfig, Run
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import MmleRecipe, read_recipe
from adadiffsr_core.training.tasks.mmle import MmleTask, MmleTaskConfig, RatedWalks, choose_metrics, fit_range
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from adadiffsr_core.training.walks.teaching import LEAST_PHOTOS, Teacher, describe_figures, rate_walks, split_few
from adadiffsr_core.training.walks.walked_model import OwnModel
from tests.walked import BLUR, METRICS, NET, made_up, save_photos

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
        info = metric_info(name)
        each = normalise_metrics(values[:, [place]], (info.worst,), (info.best,))
        torch.testing.assert_close(together[:, [place]], each, equal_nan=True)


# ---- the task


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rated")
    return made_up(folder / "walks", 60, 0), made_up(folder / "held_out", 12, 1)


def make_task(rated, **settings):
    config = MmleTaskConfig(**{"batch_size": 16, **settings})
    return MmleTask(NET, config, Examples(*rated), PRESETS["everyday"], TaskSetup(Processor(), 5, {"reference": "lq"}))


def loop(steps):
    return LoopConfig(
        steps=steps, warmup_steps=5, decay_share=0.5, check_every=10**6, save_every=10**6, learning_rate=5e-3,
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
    task.processor = Processor(bfloat16=True)
    predicted, _, _ = task.rate_held_out(task.networks)
    assert predicted.dtype == torch.float32
    assert (predicted != predicted.bfloat16().float()).float().mean() > 0.9


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"change_weight": -1.0}, {"change_weight": math.inf}])
def test_odd_tasks_are_refused(settings):
    with pytest.raises(ConfigError, match=r"batch_size|change_weight must be a number"):
        MmleTaskConfig(**settings)


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
        rate_walks(recipe, Teacher(OwnModel(model), picky), PhotoSplit(photos, photos), tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_photographs_without_a_defined_metric_to_measure_on_are_refused(tmp_path, photos, model):
    undefined = replace(BLUR, compute=lambda image, reference: torch.full((len(image),), math.nan))
    recipe = MmleRecipe.from_dict(
        read_recipe("mmle", None, {}, {}, data={"size_px": 64}, walk={"visits": 7}, walks=1, held_out=1)
    )
    split = PhotoSplit(photos, photos)
    metrics = {**METRICS, "brisque": undefined}
    with pytest.raises(ConfigError, match="no held-out walk"):
        rate_walks(recipe, Teacher(OwnModel(model), metrics), split, tmp_path, {})


def test_figures_in_words(rated):
    task = make_task(rated)
    lines = describe_figures(task.check(task.networks) | {"psnr.change": math.nan}, NET.metrics).splitlines()
    assert [line.partition(":")[0] for line in lines[1:3]] == ["psnr", "brisque"]
    assert lines[1].endswith("unknown of its changes")
    assert "agrees in 0." in lines[3]
