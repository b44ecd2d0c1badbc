"""Fine-tuning: checkpoints by LDM's names at toy size, through the same functions as the real ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.ldm_format import LdmCheckpoint
from adadiffsr_core.models.networks import load_pfj
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNetConfig
from adadiffsr_core.training.loop.loop import LoopConfig, Run
from adadiffsr_core.training.tasks.finetune import FinetuneTask, FinetuneTaskConfig
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.toy_sd import CONCAT, V1, V2, randomised, save_sd
from tests.trained import RARE, make_pairs, state_of


@pytest.fixture
def source(tmp_path):
    return LdmCheckpoint(save_sd(tmp_path / "sd.safetensors"))


@pytest.fixture
def make_task(tmp_path):
    pairs, held_out = make_pairs(tmp_path / "pairs"), make_pairs(tmp_path / "held_out", 3)
    torch.manual_seed(0)
    painter = Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))

    def make(source, *, bfloat16=True, context=None, **config):
        config = FinetuneTaskConfig(**{"batch_size": 2, "pfj_width": 8, **config})
        width = source.unet_config.context_dim
        context = randomised(1, 7, width) if context is None else context
        return FinetuneTask(
            source, config, context, Examples(pairs, held_out), painter, TaskSetup(Processor(bfloat16=bfloat16), 3)
        )

    return make


def loop(steps=3, **more):
    return LoopConfig(**{"steps": steps, "warmup_steps": 1, "check_every": RARE, "save_every": RARE, **more})


@pytest.mark.parametrize("config", [V2, CONCAT])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(config, on_disk, make_task, tmp_path):
    source = LdmCheckpoint(save_sd(tmp_path / "sd.safetensors", config))
    more = {"accumulation": 2, "average_on_disk": on_disk}
    Run(make_task(source), loop(steps=2, **more), tmp_path / "whole").train()
    for steps in (1, 2):
        Run(make_task(source), loop(steps=steps, **more), tmp_path / "parts").train()
    (whole, _), (parts, step) = (state_of(tmp_path / name) for name in ("whole", "parts"))
    assert step == 2
    assert whole.keys() == parts.keys()
    assert [key for key in whole if not torch.equal(whole[key], parts[key])] == []
    written = [(tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("whole", "parts")]
    assert written[0] == written[1]
    if config is V2:  # whose metadata lies in any order
        first, second = (load_checkpoint(tmp_path / name / "pfj.safetensors") for name in ("whole", "parts"))
        assert (first.config, first.facts) == (second.config, second.facts)
        assert [key for key in first.tensors if not torch.equal(first.tensors[key], second.tensors[key])] == []
    expected = {"state.safetensors", "checkpoint.safetensors"} | ({"pfj.safetensors"} if config is V2 else set())
    assert {path.name for path in (tmp_path / "whole").iterdir()} == expected
    begun = source.load_unet().state_dict()
    still = [key for key, value in begun.items() if torch.equal(whole[f"network.model.unet.{key}"], value)]
    assert still == []


def test_where_the_average_is_changes_nothing(source, make_task, tmp_path):
    for on_disk in (False, True):
        Run(make_task(source), loop(average_on_disk=on_disk), tmp_path / str(on_disk)).train()
    memory, disk = (state_of(tmp_path / str(on_disk))[0] for on_disk in (False, True))
    assert [key for key in memory if not torch.equal(memory[key], disk[key])] == []


def test_what_is_written_is_the_average_and_a_pfj_for_it(source, make_task, tmp_path):
    run = Run(make_task(source), loop(), tmp_path / "run")
    run.train()
    written, average = LdmCheckpoint(tmp_path / "run" / "checkpoint.safetensors"), run.average["model"]
    # nothing that the next step makes anew takes memory while files are written
    assert all(p.grad is None for p in run.task.networks.parameters())
    for key, value in written.load_unet().state_dict().items():
        assert torch.equal(value, average["unet"].state_dict()[key].half().float())
    pfj = load_pfj(tmp_path / "run" / "pfj.safetensors")
    assert pfj.config.channels == V2.widths
    assert max(float(m.phi.weight.abs().max()) for m in pfj.modulations) > 0
    facts = load_checkpoint(tmp_path / "run" / "pfj.safetensors").facts
    assert facts == {"steps": 3, "seed": 0, "finetuned": "sd.safetensors", "prediction": "eps"}


def test_accumulation_is_one_large_batch(source, make_task, tmp_path, monkeypatch):
    """Two passes of one pair each are one pass of the two, where the pairs, levels and noise are the same."""
    gt, lq, noise = randomised(2, 4, 8, 8), randomised(2, 4, 8, 8, seed=1), randomised(2, 4, 8, 8, seed=2)
    timesteps = torch.tensor([100, 700])

    def drawn(task, part):
        monkeypatch.setattr(task.pairs, "draw", lambda rng, size: (gt[part], lq[part]))
        monkeypatch.setattr(
            "adadiffsr_core.training.tasks.finetune.draw_noise", lambda *_: (timesteps[part], noise[part])
        )

    weights = []
    for passes in (1, 2):
        task = make_task(source, bfloat16=False)
        turns = task.turns

        def turn(step, task=task, passes=passes, turns=turns):
            drawn(task, slice(None) if passes == 1 else slice(step % 2, step % 2 + 1))
            yield from turns(step)

        task.turns = turn
        run = Run(task, loop(accumulation=passes, max_grad_norm=1e9), tmp_path / str(passes))
        run._one_step()
        name, parameters = "model", run.task.networks["model"].parameters()
        assert run.optimisers.keys() == {name}
        weights.append(torch.cat([p.grad.flatten() for p in parameters]))
    assert weights[0].norm() > 1e-3
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-5)


def test_accumulation_counts_passes(source, make_task, tmp_path):
    task, seen = make_task(source), []
    turns = task.turns
    task.turns = lambda step: (seen.append(step), turns(step))[1]
    Run(task, loop(steps=2, accumulation=3), tmp_path / "run").train()
    assert seen == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ConfigError, match="accumulation must be at least 1"):
        loop(accumulation=0)
    task.networks["other"] = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="trains 2 networks in turn; its accumulation must be 1"):
        Run(task, loop(accumulation=3), tmp_path / "other")


def test_checkpointing_changes_no_gradient(source, make_task):
    grads = []
    for checkpointing in (False, True):
        task = make_task(source, checkpointing=checkpointing, bfloat16=False)
        next(iter(task.turns(0)))[1]["total"].backward()
        grads.append([p.grad for p in task.networks.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert any(grad.abs().max() > 0 for grad in grads[0])


def test_checkpointing_keeps_less(source, make_task):
    kept = []
    for checkpointing in (False, True):
        task, sizes = make_task(source, checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.nbytes), t)[1], lambda t: t):
            next(iter(task.turns(0)))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]


def watch(module, seen):
    module.register_forward_hook(lambda m, args, kwargs, output: seen.append((args, kwargs, output)), with_kwargs=True)


def test_the_network_is_shown_what_the_sampler_will_show_it(source, make_task):
    task, seen, told = make_task(source, gain="none", bfloat16=False), [], []
    watch(task.networks["model"]["unet"], seen)
    watch(task.networks["model"]["pfj"], told)
    gt, lq = task.pairs.draw(np.random.default_rng([3, 5]), 2)
    (_, losses), *_ = task.turns(5)
    ((x, timesteps, residuals, context), _, output), *_ = seen
    ((condition, gain), _, made), *_ = told
    assert torch.equal(condition, lq)
    assert not gain.any()
    assert all(torch.equal(a, b) for a, b in zip(residuals, made, strict=True))
    assert torch.equal(context, task.context.expand(2, -1, -1))
    alpha_bar = torch.tensor(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))[timesteps.long()]
    signal, spread = (part.float()[:, None, None, None] for part in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    noise = (x - signal * gt) / spread
    assert abs(float(noise.std()) - 1) < 0.2
    torch.testing.assert_close(losses["total"], (output - noise).square().mean(), rtol=1e-3, atol=0)


def test_v_prediction_has_its_own_target(source, make_task):
    task, seen = make_task(source, gain="none", bfloat16=False, prediction="v"), []
    watch(task.networks["model"]["unet"], seen)
    gt, _ = task.pairs.draw(np.random.default_rng([3, 5]), 2)
    (_, losses), *_ = task.turns(5)
    ((x, timesteps, *_), _, output), *_ = seen
    alpha_bar = torch.tensor(np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))[timesteps.long()]
    signal, spread = (part.float()[:, None, None, None] for part in (alpha_bar.sqrt(), (1 - alpha_bar).sqrt()))
    noise = (x - signal * gt) / spread
    velocity = signal * noise - spread * gt  # Salimans and Ho 2022
    torch.testing.assert_close(losses["total"], (output - velocity).square().mean(), rtol=1e-3, atol=0)


def test_the_prediction_is_the_checkpoints_if_none_is_named(source, make_task, monkeypatch):
    for known in ("v", "eps"):
        monkeypatch.setattr(LdmCheckpoint, "detect_prediction", lambda self, known=known: known)
        assert make_task(source).schedule.prediction == known
        assert make_task(source, prediction="v").schedule.prediction == "v"


def test_a_wide_unet_is_shown_the_low_quality_latent(make_task, tmp_path):
    source, seen = LdmCheckpoint(save_sd(tmp_path / "sd.safetensors", CONCAT)), []
    task = make_task(source)
    assert "pfj" not in task.networks["model"]
    watch(task.networks["model"]["unet"], seen)
    _, lq = task.pairs.draw(np.random.default_rng([3, 5]), 2)
    list(task.turns(5))
    (((x, *_), _, _),) = seen
    assert torch.equal(x[:, 4:], lq)


def test_gains_are_those_of_two_noisier_levels(source, make_task, monkeypatch):
    task, told = make_task(source, bfloat16=False), []
    watch(task.networks["model"]["pfj"], told)
    seen = []
    watch(task.networks["model"]["unet"], seen)
    for timesteps in ([150, 700], [899, 900]):
        monkeypatch.setattr(
            "adadiffsr_core.training.tasks.finetune.draw_noise",
            lambda gt, rng, t=timesteps: (torch.tensor(t), randomised(*gt.shape)),
        )
        list(task.turns(0))
    levels = [args[1].tolist() for args, _, _ in seen]
    assert levels == [[250, 800, 200, 750], [150, 700], [999, 999, 949, 950], [899, 900]]
    gains = [args[1] for args, _, _ in told]
    assert not gains[0].any()
    assert gains[1].all(dim=1).tolist() == [True, False]
    assert gains[1][0].abs().min() > 0
    assert gains[1][1, 1] == 0  # still in the first half: no no-reference gain
    assert gains[1][1, 0] != 0
    assert gains[3][0, 0] != 0
    assert not gains[3][1].any()  # no two evaluations can have been before
    assert not any(gain.requires_grad for gain in gains)
    # Eq. 1 by hand, for the pair at timestep 150
    _, _, output = seen[0]
    sigma = task.schedule.timestep_to_sigma(torch.tensor([250, 200]))[:, None, None, None]
    gt, lq = task.pairs.draw(np.random.default_rng([3, 0]), 2)
    denoised = gt[:1] + sigma * (randomised(*gt.shape)[:1] - output[[0, 2]])
    before, now = LatentStatistics().quality(denoised, lq[:1].expand(2, -1, -1, -1), sigma)
    torch.testing.assert_close(gains[1][0], torch.tanh(now - before), rtol=1e-3, atol=1e-6)


def test_a_loss_falls(make_task, tmp_path):
    source = LdmCheckpoint(save_sd(tmp_path / "sd.safetensors", V1))
    run = Run(make_task(source, gain="none", bfloat16=False), loop(steps=20, learning_rate=3e-3), tmp_path / "run")
    with torch.no_grad():
        before = run.task.check(run.task.networks)["loss"]
        with torch.enable_grad():
            run.train()
        assert run.task.check(run.task.networks)["loss"] < 0.8 * before


def test_checks_and_sheets_are_made(source, make_task, tmp_path):
    run = Run(make_task(source), loop(steps=1, check_every=1), tmp_path / "run")
    run.train()
    assert run.history[-1]["check.loss"] > 0
    sheet = np.asarray(Image.open(tmp_path / "run" / "sheet-0000001.png"))
    assert sheet.shape == (3 * 64, 2 * 64, 3)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"batch_size": 0}, "at least 1"), ({"pfj_width": 0}, "at least 1"),
    ({"prediction": "flow"}, "use one of auto, eps, v"), ({"gain": "mmle"}, "use statistics or none"),
])  # fmt: skip
def test_odd_settings_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FinetuneTaskConfig(**settings)


def test_other_widths_of_input_are_refused(make_task, tmp_path):
    inpainting = UNetConfig(**{**CONCAT.to_dict(), "in_channels": 9})
    with pytest.raises(ConfigError, match="9 input channels"):
        make_task(LdmCheckpoint(save_sd(tmp_path / "sd.safetensors", inpainting)))
