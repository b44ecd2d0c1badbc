"""Runs that end before their time, whatever ends them: what is on the disk, and that they go on to the same bits."""

import signal

import pytest
import torch

from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.training.loop.loop import Run
from tests.core.training import looped
from tests.core.training.looped import assert_same_state, loop, make_autoencoder_task
from tests.trained import state_of

make_task = looped.make_task


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(make_task, tmp_path):
    Run(make_task(), loop(), tmp_path / "whole").train()
    run = Run(make_task(), loop(save_every=3), tmp_path / "parts")

    def die(step, turns=run.task.turns):
        if step == 4:
            raise RuntimeError("the power fails")
        return turns(step)

    run.task.turns = die
    with pytest.raises(RuntimeError, match="power"):
        run.train()
    assert state_of(tmp_path / "parts")[1] == 3
    Run(make_task(), loop(), tmp_path / "parts").train()
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    first, second = (load_checkpoint(tmp_path / name / "weights.safetensors") for name in ("whole", "parts"))
    assert (first.config, first.facts) == (second.config, second.facts)
    assert [key for key in first.tensors if not torch.equal(first.tensors[key], second.tensors[key])] == []
    for name, network in make_task().networks.items():
        trained = state_of(tmp_path / "whole")[0]
        learning = [(k, v) for k, v in network.named_parameters() if v.requires_grad]
        still = [k for k, v in learning if torch.equal(v, trained[f"network.{name}.{k}"])]
        # else the comparison would have shown nothing; the hinge loss may leave that bias alone
        assert set(still) <= {"head.bias"}


def test_an_error_in_the_middle_of_a_step_never_reaches_the_disk(make_task, tmp_path):
    Run(make_task(), loop(steps=4), tmp_path / "whole").train()
    run = Run(make_task(), loop(steps=8, save_every=4), tmp_path / "parts")

    def die_late(step, turns=run.task.turns):
        yield from turns(step)
        if step == 5:
            raise RuntimeError("half a step")

    run.task.turns = die_late
    with pytest.raises(RuntimeError, match="half"):
        run.train()
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


def test_ctrl_c_waits_for_the_step_and_saves_it(make_task, tmp_path):
    Run(make_task(), loop(), tmp_path / "whole").train()
    run = Run(make_task(), loop(), tmp_path / "parts")

    def interrupt(step, turns=run.task.turns):
        for position, turn in enumerate(turns(step)):
            if step == 3 and position == 0:
                signal.raise_signal(signal.SIGINT)
            yield turn

    run.task.turns = interrupt
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert signal.getsignal(signal.SIGINT) is before
    assert state_of(tmp_path / "parts")[1] == 4
    Run(make_task(), loop(), tmp_path / "parts").train()
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(make_task, tmp_path, monkeypatch):
    run = Run(make_task(), loop(steps=2), tmp_path / "run")
    run.train()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert before.keys() == {"state.safetensors", "weights.safetensors"}

    def fail(tensors, path, metadata):
        path.write_bytes(b"half a f")
        raise OSError("no space left")

    monkeypatch.setattr("adadiffsr_core.training.loop.state.save_file", fail)
    monkeypatch.setattr("adadiffsr_core.models.checkpoint.save_file", fail)
    run._one_step()
    for write in (run.save, lambda: run.task.export(run.average, tmp_path / "run" / "weights.safetensors", {})):
        with pytest.raises(OSError, match="no space"):
            write()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_freezing_the_encoder_keeps_the_decoders_moments(tmp_path):
    Run(make_autoencoder_task(0), loop(steps=2), tmp_path / "run").train()
    before, _ = state_of(tmp_path / "run")
    resumed = Run(make_autoencoder_task(0, freeze_encoder=True), loop(steps=3), tmp_path / "run")
    names = [name for name, _ in resumed.task.networks["autoencoder"].named_parameters()]
    moments = resumed.optimisers["autoencoder"].adam.state
    for index, parameter in enumerate(resumed.task.networks["autoencoder"].parameters()):
        assert torch.equal(moments[parameter]["exp_avg"], before[f"optimiser.autoencoder.{index}.exp_avg"])
    resumed.train()
    after, _ = state_of(tmp_path / "run")
    same = {
        name
        for name in names
        if torch.equal(before[f"network.autoencoder.{name}"], after[f"network.autoencoder.{name}"])
    }
    assert same == {name for name in names if name.startswith("encoder.")}
