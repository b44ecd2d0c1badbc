"""Training of feature injection: the task in its three modes, told the gain of its own pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from adadiffsr_core.data.latent_pairs import LatentPairs, write_done
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.model import load_model
from adadiffsr_core.models.networks import load_pfj
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.training.loop.loop import LoopConfig, Run
from adadiffsr_core.training.loop.state import load_state
from adadiffsr_core.training.tasks.denoising import NoisyPairs, draw_noise
from adadiffsr_core.training.tasks.known_gain import count_knowing, draw_intervals, known_gain
from adadiffsr_core.training.tasks.pfj import PfjTask, PfjTaskConfig
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.core.training.injected import CPU, ESTIMATORS, EVERYDAY, scheduled
from tests.oracles import TINY_PFJ, randomise, tiny_model

MODES = ("pfj", "concat", "cross_attention")


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
