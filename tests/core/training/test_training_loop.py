"""The loop that all training shares: averaging, the optimiser's options, what comes when."""

import itertools
import threading

import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.training.loop.loop import Run
from tests.core.training import looped
from tests.core.training.looped import loop, make_autoencoder_task
from tests.trained import RARE, state_of

make_task = looped.make_task


def test_a_run_trains_outside_the_main_thread(make_task, tmp_path):
    thread = threading.Thread(target=Run(make_task(), loop(steps=1), tmp_path / "run").train)
    thread.start()
    thread.join()
    assert state_of(tmp_path / "run")[1] == 1


def test_the_exported_weights_are_the_average(make_task, tmp_path):
    run = Run(make_task(), loop(steps=3, ema_decay=0.9), tmp_path)
    name = run.task.averaged[0]
    expected = {key: value.clone() for key, value in run.task.networks[name].state_dict().items()}
    for step in range(3):
        run._one_step()
        run.step += 1
        decay = min(0.9, (step + 1) / (step + 10))
        for key, value in run.task.networks[name].state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value
    for key, value in run.average[name].state_dict().items():
        torch.testing.assert_close(value, expected[key])
    run.save()
    prefix = {"autoencoder": "first_stage_model.", "unet": "model.diffusion_model."}[name]
    stored = load_checkpoint(tmp_path / "weights.safetensors").tensors
    moved = 0
    for key, value in run.average[name].state_dict().items():
        assert torch.equal(stored[prefix + key], value.half())
        moved += not torch.equal(value, run.task.networks[name].state_dict()[key])
    assert moved > 0


def test_options_arrive_in_the_optimiser(make_task, tmp_path, monkeypatch):
    config = loop(steps=8, learning_rate=0.02, warmup_steps=4, decay_share=0.25, betas=(0.5, 0.75), weight_decay=0.125,
                  max_grad_norm=0.0625)  # fmt: skip
    run = Run(make_task(), config, tmp_path)
    optimiser = run.optimisers[run.task.averaged[0]]
    adam, group = optimiser.adam, optimiser.adam.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.75), 0.125)
    norms, rates, clip = [], [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, norm: (norms.append(norm), clip(p, norm))[1])
    step = adam.step
    monkeypatch.setattr(adam, "step", lambda: (rates.append(group["lr"]), step())[1])
    run.train()
    # up over 4 steps, level, down to nothing over the last 2
    assert rates == pytest.approx([0.005, 0.01, 0.015, 0.02, 0.02, 0.02, 0.02, 0.01])
    assert set(norms) == {0.0625}


def test_gradients_are_scaled_down_to_the_norm(make_task, tmp_path):
    run = Run(make_task(), loop(max_grad_norm=1e-3), tmp_path)
    run._one_step()
    name = run.task.averaged[0]
    grads = [p.grad.flatten() for p in run.task.networks[name].parameters() if p.grad is not None]
    assert float(torch.cat(grads).norm()) <= 1e-3 * 1.001


def test_logging_checking_and_saving_come_when_told(make_task, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Run, "save", lambda self: saved.append(self.step))
    run = Run(make_task(), loop(steps=6, log_every=2, check_every=3, save_every=4), tmp_path)
    run.train()
    assert [row["step"] for row in run.history if "check" not in " ".join(row)] == [2, 4, 6]
    assert [row["step"] for row in run.history if "check" in " ".join(row)] == [3, 6]
    assert saved == [4, 6]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "losses.png", "sheet-0000003.png", "sheet-0000006.png"
    ]  # fmt: skip


@pytest.mark.parametrize(("check_every", "checked"), [(2, [2, 3]), (3, [3]), (RARE, [3])])
def test_the_end_is_measured_once_if_that_is_asked_for(make_task, tmp_path, monkeypatch, check_every, checked):
    # Drawn by the test above; each takes longer than all steps.
    monkeypatch.setattr("adadiffsr_core.training.loop.loop.save_loss_chart", lambda *history, title: None)
    run = Run(make_task(), loop(steps=3, check_every=check_every, check_at_end=True), tmp_path)
    run.train()
    assert [row["step"] for row in run.history if "check" in " ".join(row)] == checked


@pytest.mark.parametrize("enabled", [True, False])
def test_bfloat16_reaches_the_network(make_task, enabled):
    task = make_task(Processor(bfloat16=enabled))
    network, seen = task.networks[task.averaged[0]], []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, i, output: seen.append(output.dtype))
    next(iter(task.turns(0)))
    assert set(seen) == {torch.bfloat16 if enabled else torch.float32}


def test_another_seed_is_another_run(tmp_path):
    for seed in (1, 2):
        Run(make_autoencoder_task(seed), loop(steps=1, seed=seed), tmp_path / str(seed)).train()
    first, second = (state_of(tmp_path / str(seed))[0] for seed in (1, 2))
    key = "network.autoencoder.encoder.conv_in.weight"
    assert not torch.equal(first[key], second[key])


def test_minutes_end_a_run_and_its_decay_is_planned_into_them(make_task, tmp_path, monkeypatch):
    clock = itertools.count(0, 10)
    monkeypatch.setattr("adadiffsr_core.training.loop.loop.time.monotonic", lambda: float(next(clock)))
    config = loop(steps=None, minutes=2, learning_rate=0.01, warmup_steps=1, decay_share=0.5)
    run, rates = Run(make_task(), config, tmp_path), []
    adam = run.optimisers[run.task.averaged[0]].adam
    step = adam.step
    monkeypatch.setattr(adam, "step", lambda: (rates.append(adam.param_groups[0]["lr"]), step())[1])
    run.train()
    assert run.seconds >= 120
    assert run.step == len(rates) > 3
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.005
    again = Run(make_task(), config, tmp_path)  # earlier runs' time counts
    again.train()
    assert again.step == run.step


def test_a_state_is_saved_when_minutes_have_passed(make_task, tmp_path, monkeypatch):
    clock, saved = itertools.count(0, 10), []
    monkeypatch.setattr("adadiffsr_core.training.loop.loop.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(Run, "save", lambda self: saved.append(self.step))
    Run(make_task(), loop(steps=12, save_minutes=0.9), tmp_path).train()
    assert len(saved) > 2
    assert saved[0] < 6


def test_a_gradient_that_is_not_finite_changes_nothing_and_is_told(make_task, tmp_path, caplog):
    run = Run(make_task(), loop(steps=4, log_every=1), tmp_path)
    name = run.task.averaged[0]
    network, kept = run.task.networks[name], []

    def spoil(step, turns=run.task.turns):
        kept.append({key: value.clone() for key, value in network.state_dict().items()})
        for key, losses in turns(step):
            worse = float("nan") if (step, key) == (1, name) else 1.0
            yield key, {**losses, "total": losses["total"] * worse}

    run.task.turns = spoil
    run.train()
    assert [key for key in kept[1] if not torch.equal(kept[1][key], kept[2][key])] == []
    assert [key for key in kept[0] if not torch.equal(kept[0][key], kept[1][key])]
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    assert f"step 2: 1 gradients of {name} were not finite" in caplog.text


def test_losses_are_logged_as_means_over_the_steps_between(make_task, tmp_path):
    run = Run(make_task(), loop(steps=4, log_every=2), tmp_path)
    name, seen = run.task.averaged[0], []

    def listen(step, turns=run.task.turns):
        for key, losses in turns(step):
            if key == name:
                seen.append(float(losses["total"].detach()))
            yield key, losses

    run.task.turns = listen
    run.train()
    logged = [row[f"{name}.total"] for row in run.history]
    assert logged == pytest.approx([sum(seen[:2]) / 2, sum(seen[2:]) / 2])


def test_a_loss_that_comes_in_late_is_averaged_over_the_steps_that_have_it(tmp_path):
    run, seen = Run(make_autoencoder_task(adversarial_from=3), loop(steps=4, log_every=4), tmp_path), []

    def listen(step, turns=run.task.turns):
        for key, losses in turns(step):
            if "feature" in losses:
                seen.append(float(losses["feature"].detach()))
            yield key, losses

    run.task.turns = listen
    run.train()
    assert len(seen) == 1
    assert run.history[-1]["autoencoder.feature"] == pytest.approx(seen[0])


@pytest.mark.parametrize("bad", [{"steps": None}, {"minutes": 0}, {"minutes": float("nan")}, {"decay_share": 1.5}])
def test_a_run_without_an_end_or_with_an_impossible_one_is_refused(bad):
    with pytest.raises(ConfigError):
        loop(**bad)
