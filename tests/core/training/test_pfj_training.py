"""Training of feature injection: gains as the sampler would know them, the task in its three modes, the command."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.cli import main
from adadiffsr_core.data.latent_pairs import LatentPairs, write_done
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_pfj
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling.controller import decide, start_states
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.loop.loop import LoopConfig, Run
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.recipe import LdmRecipe, PfjRecipe, read_recipe
from adadiffsr_core.training.tasks.denoising import NoisyPairs, ScheduledUNet, draw_noise
from adadiffsr_core.training.tasks.known_gain import count_knowing, draw_intervals, known_gain
from adadiffsr_core.training.tasks.ldm import save_ldm
from adadiffsr_core.training.tasks.pfj import PfjTask, PfjTaskConfig
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.oracles import TINY_AUTOENCODER, TINY_MMLE, TINY_PFJ, randomise, tiny_model

CPU = Processor()
MODES = ("pfj", "concat", "cross_attention")
EVERYDAY = PRESETS["everyday"]
ESTIMATORS = {"statistics": LatentStatistics(), "mmle": MmleEstimator(randomise(Mmle(TINY_MMLE), 3))}


def make_pairs(folder, count, seed):
    """Truths that their low-quality twins tell."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lq = rng.standard_normal((count, 4, 8, 8))
    np.save(folder / "lq.npy", lq.astype(np.float16))
    np.save(folder / "gt.npy", (0.5 * np.roll(lq, 1, axis=1)).astype(np.float16))
    write_done(folder, count)
    return LatentPairs(folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return make_pairs(folder / "pairs", 40, 0), make_pairs(folder / "held_out", 12, 1)


def make_task(pairs, mode="pfj", *, joint=False, bfloat16=False, estimator="statistics", **model):
    return PfjTask(
        replace(TINY_PFJ, mode=mode), PfjTaskConfig(batch_size=8),
        replace(tiny_model(), estimator=ESTIMATORS[estimator], **model), Examples(*pairs),
        TaskSetup(Processor(bfloat16=bfloat16), 3, {"model": "abc"}), joint,
    )  # fmt: skip


def loop(steps, **more):
    settings = {"warmup_steps": 2, "check_every": 10**6, "save_every": 10**6, "ema_decay": 0.9, "bfloat16": False}
    return LoopConfig(steps=steps, **settings | more)


def copy_state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def moved(module, before):
    return [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]


# ---- the gain


def scheduled(model, processor=CPU):
    return ScheduledUNet(model.unet, model.schedule, processor)


def gain_of_one(model, estimator, sampling, gt, lq, noise, timestep, intervals):
    """The sampler's own denoiser and controller, on the two visits before."""
    steps, grid = sampling.steps, build_grid(8, 8, 8, 0, 2)
    latest = (999 - timestep) / 1000 * steps - intervals[0]
    before, landing = latest - intervals[1], sampling.dtss.first_jump * steps
    if before < landing <= latest and landing:
        before = 0.0
    if before < 0 or latest < landing:
        return torch.zeros(2), latest
    states = start_states(1, sampling.dtss)
    for place, since in ((before, 0), (latest, latest - before)):
        sigma = model.schedule.timestep_to_sigma(torch.tensor([999 - place / steps * 1000]))
        with torch.no_grad():
            x = model.schedule.add_noise(gt, noise, sigma)
            denoised = UNetDenoiser(model.unet, model.schedule, lq, grid)(x, sigma, [0], None)
        here = replace(states, index=torch.tensor([place]), interval=torch.tensor([since]))
        states = decide(here, estimator.quality(denoised, lq, sigma), sampling.dtss, steps).states
    return states.gain[0], latest


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("first_jump", [0.0, 0.25])
@pytest.mark.parametrize("prediction", ["v", "flow"])
def test_gains_are_those_of_the_controller_at_the_visit_before(estimator, prediction, first_jump):
    model, rng = tiny_model(Schedule(prediction)), np.random.default_rng(1)
    sampling = replace(EVERYDAY, dtss=DtssConfig(intervals=(1, 2, 5), nr_from=0.4, first_jump=first_jump))
    gt, lq = torch.randn(2, 24, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    timesteps, noise = draw_noise(gt, CPU.generator(1, 0))
    intervals = draw_intervals(rng, 24, sampling)
    drawn = NoisyPairs(gt, lq, noise, timesteps)
    gains = known_gain(scheduled(model), ESTIMATORS[estimator], sampling, drawn, intervals)
    seen = set()
    for row in range(24):
        one = (part[row : row + 1] for part in (gt, lq, noise))
        args = (*one, int(timesteps[row]), intervals[row].tolist())
        expected, latest = gain_of_one(model, ESTIMATORS[estimator], sampling, *args)
        torch.testing.assert_close(gains[row], expected, rtol=1e-3, atol=2e-6)
        seen.add("none" if not expected.any() else "both" if latest >= 0.4 * 24 else "fr")
        assert bool(gains[row, 1]) == (latest >= 0.4 * 24 and bool(gains[row, 0]))
    assert seen == {"none", "fr", "both"}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_where_no_tile_has_been_seen_twice_there_is_no_gain(estimator):
    model, gt = tiny_model(), torch.randn(3, 4, 8, 8)
    drawn = NoisyPairs(gt, gt, torch.randn(3, 4, 8, 8), torch.tensor([999, 990, 960]))
    intervals = torch.ones(3, 2, dtype=torch.long)
    net = scheduled(model, Processor(bfloat16=True))
    gain = known_gain(net, ESTIMATORS[estimator], EVERYDAY, drawn, intervals)
    assert torch.equal(gain, torch.zeros(3, 2))


@pytest.mark.parametrize("first_jump", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("count", [3, 8, 24])
def test_who_can_know_a_gain_is_counted_without_looking(count, first_jump):
    """With as many rows as may know one, gains are those of all rows, whatever the draw."""
    sampling = replace(EVERYDAY, dtss=DtssConfig(intervals=(1, 2), first_jump=first_jump))
    model, most = tiny_model(), count_knowing(count, sampling)
    known = []
    for seed in range(6):
        gt, lq = torch.randn(2, count, 4, 4, 4, generator=CPU.generator(seed, 1))
        timesteps, noise = draw_noise(gt, CPU.generator(seed, 0))
        drawn = NoisyPairs(gt, lq, noise, timesteps)
        intervals = draw_intervals(np.random.default_rng(seed), count, sampling)
        args = (scheduled(model), ESTIMATORS["statistics"], sampling, drawn, intervals)
        gain = known_gain(*args)
        torch.testing.assert_close(known_gain(*args, most=most), gain, rtol=1e-4, atol=1e-7)
        known.append(int(gain.any(dim=1).sum()))
    assert 0 < max(known) <= most
    if first_jump == 0.5 and count >= 8:
        assert most <= count / 2  # the jump leaves 11 of 24 base steps, and one of them is the first visit


def test_intervals_are_those_of_the_ladder():
    drawn = draw_intervals(np.random.default_rng(0), 400, EVERYDAY)
    assert drawn.shape == (400, 2)
    for column in drawn.T:
        assert {interval: 60 < int((column == interval).sum()) < 140 for interval in (1, 2, 3, 4)} == dict.fromkeys(
            EVERYDAY.dtss.intervals, True
        )


@pytest.mark.parametrize("mode", MODES)
def test_the_injection_is_told_the_gain_of_its_own_pairs(pairs, mode, monkeypatch):
    task, seen = make_task(pairs, mode), []
    modulate = Pfj.modulate

    def watch(self, features, gain, strength):
        seen.append(gain)
        return modulate(self, features, gain, strength)

    monkeypatch.setattr(Pfj, "modulate", watch)
    next(iter(task.turns(4)))
    rng = np.random.default_rng([3, 4])
    gt, lq = pairs[0].draw(rng, 8)
    timesteps, noise = draw_noise(gt, CPU.generator(3, 4))
    drawn, intervals = NoisyPairs(gt, lq, noise, timesteps), draw_intervals(rng, 8, EVERYDAY)
    most = count_knowing(8, EVERYDAY)
    expected = known_gain(scheduled(task.model), task.estimator, EVERYDAY, drawn, intervals, most=most)
    assert torch.equal(seen[0], expected if mode == "pfj" else torch.zeros(8, 2))
    assert expected.any()


# ---- the task


def losses(task, step=0):
    return float(next(iter(task.turns(step)))[1]["total"].detach())


def test_untrained_every_mode_has_the_loss_of_the_model_alone(pairs):
    task = make_task(pairs)
    rng = np.random.default_rng([3, 0])
    gt, lq = pairs[0].draw(rng, 8)
    timesteps, noise = draw_noise(gt, CPU.generator(3, 0))
    drawn = NoisyPairs(gt, lq, noise, timesteps)
    plain = float(scheduled(task.model).learn(drawn)[0].mean())
    assert [losses(make_task(pairs, mode)) for mode in MODES] == [plain] * 3
    assert losses(make_task(pairs, joint=True)) == plain
    assert losses(task, step=1) != plain
    figures = make_task(pairs).check(task.networks)
    assert figures["loss"] == figures["zero_gain"] == figures["without"] > 0


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_it_learns_and_moves_what_it_should(pairs, tmp_path, mode, joint):
    run = Run(make_task(pairs, mode, joint=joint), loop(25, learning_rate=5e-3), tmp_path)
    frozen, trained = copy_state(run.task.model.unet), copy_state(run.task.networks)
    before = run.task.check(run.task.networks)
    run.train()
    figures = run.task.check(run.average)
    assert figures["loss"] < 0.97 * before["loss"]
    assert figures["loss"] != figures["without"]
    assert not moved(run.task.model.unet, frozen)
    if joint:
        assert figures["without"] < before["without"]
    else:
        assert figures["without"] == before["without"]
        assert figures["loss"] < 0.9 * before["loss"]
    assert set(moved(run.task.networks, trained)) == set(trained)
    assert any("unet" in key for key in trained) == joint


def test_held_out_figures_tell_whether_gain_matters(pairs):
    for mode in MODES:
        task = make_task(pairs, mode)
        randomise(task.networks["injection"]["pfj"], 4)
        figures = task.check(task.networks)
        assert figures == task.check(task.networks)
        assert abs(figures["loss"] - figures["without"]) > 1e-3
        assert (abs(figures["loss"] - figures["zero_gain"]) > 1e-4) == (mode == "pfj")


def test_held_out_figures_are_means_over_all_pairs(pairs, monkeypatch):
    task = make_task((pairs[1], pairs[0]))
    sizes, take = [], LatentPairs.take
    monkeypatch.setattr(
        LatentPairs, "take", lambda self, indices: (sizes.append(indices.tolist()), take(self, indices))[1]
    )
    monkeypatch.setattr(task, "_learn", lambda networks, pairs, gain: (pairs.lq[:, 0, 0, 0], None))
    assert task.check(task.networks)["loss"] == pytest.approx(float(pairs[0].lq[:, 0, 0, 0].mean()), abs=1e-3)
    assert [len(chosen) for chosen in sizes] == [32, 8]


def state_of(folder):
    return load_state(folder / "state.safetensors")[0]


@pytest.mark.parametrize("joint", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(pairs, tmp_path, joint):
    def begin(name):
        return Run(make_task(pairs, joint=joint, bfloat16=True, estimator="mmle"), loop(6), tmp_path / name)

    begin("whole").train()
    half = begin("parts")

    def die(step, turns=half.task.turns):
        if step == 3:
            half.save()
            raise RuntimeError("the power fails")
        return turns(step)

    half.task.turns = die
    with pytest.raises(RuntimeError, match="power"):
        half.train()
    begin("parts").train()
    whole, parts = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []


@pytest.mark.parametrize("enabled", [True, False])
def test_bfloat16_reaches_unet_and_injection_but_not_the_estimator(pairs, enabled):
    task, seen = make_task(pairs, bfloat16=enabled, estimator="mmle"), {}
    parts = {"unet": task.model.unet, "pfj": task.networks["injection"]["pfj"], "mmle": task.estimator.mmle}
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, output, name=name: seen.setdefault(name, set()).add(output.dtype)
        )
        for name, part in parts.items()
        for layer in part.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    next(iter(task.turns(0)))
    for hook in hooks:
        hook.remove()
    low = torch.bfloat16 if enabled else torch.float32
    assert seen == {"unet": {low}, "pfj": {low}, "mmle": {torch.float32}}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_what_it_exports_is_the_average_and_samples_as_its_sheet_says(pairs, tmp_path, mode, joint):
    run = Run(make_task(pairs, mode, joint=joint), loop(3, learning_rate=0.05), tmp_path)
    run.train()
    sheet = run.task.sheet(run.average)
    assert (sheet.shape, sheet.dtype) == ((4 * 64, 6 * 64, 3), np.uint8)
    checkpoint = load_checkpoint(tmp_path / "weights.safetensors", "pfj")
    assert dict(checkpoint.facts) == {"steps": 3, "seed": 0, "model": "abc", "mode": mode, "joint": joint}
    pfj = load_pfj(tmp_path / "weights.safetensors")
    assert pfj.config == replace(TINY_PFJ, mode=mode)
    for key, value in run.average["injection"]["pfj"].state_dict().items():
        assert torch.equal(pfj.state_dict()[key], value.half().float())
    assert (tmp_path / "ldm.safetensors").exists() == joint
    model = load_model(tmp_path / "ldm.safetensors") if joint else run.task.model
    if joint:
        for key, value in run.average["injection"]["unet"].state_dict().items():
            assert torch.equal(model.unet.state_dict()[key], value.half().float())
        assert model.schedule == run.task.model.schedule
        assert moved(model.unet, {key: value.half().float() for key, value in tiny_model().unet.state_dict().items()})
    _, lq = pairs[1].take(np.arange(6))
    sampling = replace(EVERYDAY, tile_size=64, overlap=0, tile_fit=False, seed=3)
    for row, net in ((1, None), (2, pfj)):
        latent, *_ = sample_latent(replace(model, pfj=net, estimator=run.task.estimator), lq, sampling)
        picture = sheet[row * 64 : row * 64 + 64].reshape(64, 6, 64, 3).transpose(1, 3, 0, 2) / 255
        assert np.abs(model.decode(latent).numpy() - picture).mean() < 0.02
    assert np.abs(sheet[64:128].astype(int) - sheet[128:192]).max() > 2


@pytest.mark.parametrize("joint", [False, True])
def test_the_perceptual_term_is_added_and_reaches_the_injection(pairs, joint):
    pytest.importorskip("stlpips_pytorch", reason="the perceptual term needs stlpips-pytorch")
    task = PfjTask(
        TINY_PFJ, PfjTaskConfig(batch_size=8, perceptual_weight=0.5), tiny_model(), Examples(*pairs),
        TaskSetup(CPU, 3), joint,
    )  # fmt: skip
    randomise(task.networks["injection"]["pfj"], 4).requires_grad_(True)
    values = next(iter(task.turns(0)))[1]
    plain = make_task(pairs, joint=joint)
    randomise(plain.networks["injection"]["pfj"], 4)
    assert float(values["error"].detach()) == losses(plain)
    assert float(values["perceptual"].detach()) > 0
    torch.testing.assert_close(values["total"], values["error"] + 0.5 * values["perceptual"])
    values["perceptual"].backward()
    reached = {key for key, weight in task.networks.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert any("pfj" in key for key in reached)
    assert any("unet" in key for key in reached) == joint
    assert not any(weight.requires_grad for weight in task.model.autoencoder.parameters())


def test_an_injection_for_another_unet_is_refused(pairs):
    with pytest.raises(ConfigError, match="widths"):
        PfjTask(
            replace(TINY_PFJ, channels=(64, 128)), PfjTaskConfig(), tiny_model(), Examples(*pairs), TaskSetup(CPU, 0),
        )  # fmt: skip


@pytest.mark.parametrize(("settings", "sentence"), [({"batch_size": 0}, "batch_size"), ({"preset": "x"}, "unknown")])
def test_odd_tasks_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        PfjTaskConfig(**settings)


# ---- the command


SECTIONS = {
    "loop": {"steps": 2, "check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "net": {"channels": [32, 64], "width": 8},
    "task": {"batch_size": 2, "perceptual_weight": 0},
    "data": {"size_px": 64, "min_scale": 1.0},
    "pairs": 6,
    "held_out": 6,
    "holdout": 0.4,
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((96, 96)).save(tmp_path / "data" / f"photo{index}.png")
    model = tiny_model()
    save_ldm(model.unet, model.autoencoder, model.schedule, tmp_path / "model.safetensors", {})
    (tmp_path / "pfj.json").write_text(json.dumps(SECTIONS))
    return tmp_path


def words(folder, *more, network="pfj"):
    fixed = [folder / "data", "--run", folder / "run", "--config", folder / f"{network}.json", "--threads", 1]
    return ["train", network, *map(str, [*fixed, *more])]


def pfj_words(folder, *more):
    return words(folder, "--model", folder / "model.safetensors", *more)


def refusal(arguments, capsys):
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_the_command_trains_goes_on_and_refuses(project, capsys):
    assert main(pfj_words(project)) == 0
    assert capsys.readouterr().out == f"{project / 'run' / 'weights.safetensors'}: pfj after 2 steps\n"
    assert {path.name for path in (project / "run").iterdir()} == {
        "held_out", "pairs", "losses.png", "origin.json", "photographs.json", "recipe.json", "sheet-0000002.png",
        "state.safetensors",
        "weights.safetensors",
    }  # fmt: skip
    facts = load_checkpoint(project / "run" / "weights.safetensors", "pfj").facts
    assert (facts["mode"], facts["estimator"], facts["steps"]) == ("pfj", "LatentStatistics", 2)
    assert main(pfj_words(project, "--steps", 3)) == 0
    assert load_state(project / "run" / "state.safetensors")[1]["step"] == 3
    other = tiny_model()
    randomise(other.unet, 9)
    save_ldm(other.unet, other.autoencoder, other.schedule, project / "other.safetensors", {})
    strange = randomise(Autoencoder(TINY_AUTOENCODER), 7)
    save_ldm(other.unet, strange, other.schedule, project / "strange.safetensors", {})
    away = ["--run", project / "away", "--cache", project / "run"]
    for more, sentence in (
        (["--mode", "concat"], "was made with other networks"),
        (["--joint"], "was made with other joint"),
        (["--seed", 4], "was made with other seed"),
        (["--model", project / "other.safetensors"], "was made with other model"),
        ([*away, "--model", project / "strange.safetensors"], "was made with other autoencoder"),
        (["--mode", "sum"], "invalid choice"),
        (["--mmle", project / "absent"], "does not exist"),
        (["--mmle", project / "model.safetensors"], "holds ldm, not mmle or bundle"),
        (["--model", project / "run" / "weights.safetensors"], "holds pfj, not ldm or bundle"),
    ):
        assert sentence in refusal(pfj_words(project, *more), capsys), more
    # Whatever the recipe says of them, widths and channels are the model's.
    (project / "pfj.json").write_text(json.dumps(SECTIONS | {"net": {**SECTIONS["net"], "channels": [64, 128, 192]}}))
    assert main(pfj_words(project, "--run", project / "fitted")) == 0
    fitted = load_checkpoint(project / "fitted" / "weights.safetensors", "pfj").section("pfj")
    assert (fitted["channels"], fitted["latent_channels"]) == ([32, 64], 4)
    (project / "pfj.json").write_text(json.dumps(SECTIONS | {"data": {"size_px": 60}}))
    assert "size_px 60 is not a multiple of 16" in refusal(pfj_words(project), capsys)


def test_runs_of_all_kinds_share_a_cache(project, monkeypatch):
    encoded, encode = [], Autoencoder.encode
    monkeypatch.setattr(Autoencoder, "encode", lambda self, image: (encoded.append(len(image)), encode(self, image))[1])
    ldm = {key: SECTIONS[key] for key in SECTIONS if key not in ("net", "task")}
    ldm["task"] = {"batch_size": 2}
    ldm["net"] = {
        "in_channels": 8, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1,
        "attention_levels": [],
    }  # fmt: skip
    ldm["pairs"] = 16
    (project / "ldm.json").write_text(json.dumps(ldm))
    cache = ["--cache", project / "cache"]
    ldm_words = words(project, "--autoencoder", project / "model.safetensors", *cache, network="ldm")
    ldm_words[ldm_words.index(str(project / "run"))] = str(project / "ldm")
    assert main(ldm_words) == 0
    assert {path.name for path in (project / "cache").iterdir()} == {
        "held_out"
    }  # a window moves on, so it is shared by none
    made = sum(encoded)
    for mode in ("pfj", "concat"):
        more = ["--model", project / "ldm" / "weights.safetensors", "--run", project / mode, "--mode", mode, *cache]
        assert main(words(project, *more, "--joint", "--seed", 5)) == 0
        assert load_pfj(project / mode / "weights.safetensors").config.mode == mode
        load_model(project / mode / "ldm.safetensors")
    assert sum(encoded) == made + 2 * SECTIONS["pairs"]
    assert {path.name for path in (project / "cache").iterdir()} == {"pairs", "held_out"}


def test_the_shipped_recipes_can_share_what_they_measure_on():
    pfj = PfjRecipe.from_dict(read_recipe("pfj", None, {}, {}))
    ldm = LdmRecipe.from_dict(read_recipe("ldm", None, {}, {}))
    assert (pfj.data, pfj.held_out, pfj.holdout, pfj.pairs_seed) == (ldm.data, ldm.held_out, ldm.holdout, ldm.loop.seed)


def test_the_shipped_recipe_fits_the_embedded_model():
    recipe = PfjRecipe.from_dict(read_recipe("pfj", None, {}, {}))
    assert (recipe.loop.steps, recipe.joint, recipe.net.mode) == (150, False, "pfj")
    unet = load_model().unet.config  # as the command does
    net = replace(recipe.net, latent_channels=unet.out_channels, channels=unet.widths)
    replace(load_model(), pfj=Pfj(net))
    assert PfjRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for change in ({"pairs": 0}, {"held_out": 5}):
        with pytest.raises(ConfigError, match="pairs must be at least 1 and held_out 6"):
            PfjRecipe.from_dict({**recipe.to_dict(), **change})
