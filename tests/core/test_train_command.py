import json
import signal
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from adadiffsr_core.checkpoint import load_checkpoint
from adadiffsr_core.cli import main
from adadiffsr_core.commands.train import autoencoder as train_autoencoder
from adadiffsr_core.commands.train import common as train_common
from adadiffsr_core.errors import CheckpointError, ConfigError
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNetConfig
from adadiffsr_core.training import taesd as taesd_module
from adadiffsr_core.training.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from adadiffsr_core.training.dataset import find_images, split_photos
from adadiffsr_core.training.latent_pairs import LatentPairs, write_done
from adadiffsr_core.training.ldm import LdmTask, LdmTaskConfig, load_autoencoder
from adadiffsr_core.training.loop import LoopConfig, Run
from adadiffsr_core.training.recipe import AutoencoderRecipe, LdmRecipe, read_recipe
from adadiffsr_core.training.state import load_state
from adadiffsr_core.training.taesd import Taesd
from adadiffsr_core.training.teacher import TeacherCache, build_teacher_cache

AUTOENCODER = AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
UNET = UNetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1)
NET = {"channels": [8, 8], "encoder_blocks": [1, 1], "decoder_blocks": [1, 1]}
RARE = 10**6


class FlatTeacher(Taesd):
    """The real thing is slow at 512 px; this teaches the mean of each square."""

    def __init__(self, folder=None):
        torch.nn.Module.__init__(self)

    def encode(self, image):
        means = torch.nn.functional.avg_pool2d(image, 8)
        return torch.cat([means, means[:, :1]], dim=1) * 2 - 1


def make_cache(folder, photos=4, side=64):
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", rng.integers(0, 256, (photos, side, side, 3), dtype=np.uint8))
    np.save(folder / "latents.npy", rng.standard_normal((photos, 4, side // 8, side // 8)).astype(np.float16))
    return TeacherCache(folder, [False] * (photos - 1) + [True])


def make_pairs(folder, count=8, side=8):
    rng = np.random.default_rng(count)
    folder.mkdir(parents=True)
    for name in ("gt", "lq"):
        np.save(folder / f"{name}.npy", rng.standard_normal((count, 4, side, side)).astype(np.float16))
    write_done(folder, count)
    return LatentPairs(folder)


@pytest.fixture(params=["autoencoder", "ldm"])
def make_task(request, tmp_path):
    if request.param == "autoencoder":
        data = make_cache(tmp_path / "teacher")
        # the discriminator joins in the middle: its moments and spectral norms must be resumed as well
        config = AutoencoderTaskConfig(crop_px=48, batch_size=2, adversarial_from=2)
        return lambda: AutoencoderTask(AUTOENCODER, config, data, seed=3, bfloat16=True)
    pairs = make_pairs(tmp_path / "pairs")
    held_out = make_pairs(tmp_path / "held_out", count=6)
    torch.manual_seed(1)
    frozen = Autoencoder(AUTOENCODER)
    return lambda: LdmTask(UNET, LdmTaskConfig(batch_size=2), frozen, pairs, held_out, seed=3, bfloat16=True)


def loop(steps=6, **more):
    return LoopConfig(**{"steps": steps, "warmup_steps": 3, "check_every": RARE, "save_every": RARE, **more})


def state_of(folder):
    tensors, facts = load_state(folder / "state.safetensors")
    return tensors, facts["step"]


def assert_same_state(folder, other):
    (tensors, step), (others, other_step) = state_of(folder), state_of(other)
    assert step == other_step
    assert tensors.keys() == others.keys()
    assert [key for key in tensors if not torch.equal(tensors[key], others[key])] == []


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
        still = [k for k, v in network.named_parameters() if torch.equal(v, trained[f"network.{name}.{k}"])]
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


def test_a_run_trains_outside_the_main_thread(make_task, tmp_path):
    thread = threading.Thread(target=Run(make_task(), loop(steps=1), tmp_path / "run").train)
    thread.start()
    thread.join()
    assert state_of(tmp_path / "run")[1] == 1


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(make_task, tmp_path, monkeypatch):
    run = Run(make_task(), loop(steps=2), tmp_path / "run")
    run.train()
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    assert before.keys() == {"state.safetensors", "weights.safetensors"}

    def fail(tensors, path, metadata):
        path.write_bytes(b"half a f")
        raise OSError("no space left")

    monkeypatch.setattr("adadiffsr_core.training.state.save_file", fail)
    monkeypatch.setattr("adadiffsr_core.checkpoint.save_file", fail)
    run._one_step()
    for write in (run.save, lambda: run.task.export(run.average, tmp_path / "run" / "weights.safetensors", {})):
        with pytest.raises(OSError, match="no space"):
            write()
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


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
    config = loop(steps=8, learning_rate=0.02, warmup_steps=4, decay_steps=2, betas=(0.5, 0.75), weight_decay=0.125,
                  max_grad_norm=0.0625)  # fmt: skip
    run = Run(make_task(), config, tmp_path)
    optimiser = run.optimisers[run.task.averaged[0]]
    group = optimiser.param_groups[0]
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.75), 0.125)
    norms, rates, clip = [], [], torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, norm: (norms.append(norm), clip(p, norm))[1])
    step = optimiser.step
    monkeypatch.setattr(optimiser, "step", lambda: (rates.append(group["lr"]), step())[1])
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


@pytest.mark.parametrize("enabled", [True, False])
def test_bfloat16_reaches_the_network(make_task, enabled):
    task = make_task()
    task.bfloat16 = enabled
    network, seen = task.networks[task.averaged[0]], []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, i, output: seen.append(output.dtype))
    next(iter(task.turns(0)))
    assert set(seen) == {torch.bfloat16 if enabled else torch.float32}


def test_another_seed_is_another_run(tmp_path):
    data = make_cache(tmp_path / "teacher")
    config = AutoencoderTaskConfig(crop_px=48, batch_size=2)
    for seed in (1, 2):
        Run(
            AutoencoderTask(AUTOENCODER, config, data, seed, True), loop(steps=1, seed=seed), tmp_path / str(seed)
        ).train()
    first, second = (state_of(tmp_path / str(seed))[0] for seed in (1, 2))
    key = "network.autoencoder.encoder.conv_in.weight"
    assert not torch.equal(first[key], second[key])


def test_freezing_the_encoder_keeps_the_decoders_moments(tmp_path):
    data = make_cache(tmp_path / "teacher")

    def task(*, frozen):
        config = AutoencoderTaskConfig(crop_px=48, batch_size=2, freeze_encoder=frozen)
        return AutoencoderTask(AUTOENCODER, config, data, 0, True)

    Run(task(frozen=False), loop(steps=2), tmp_path / "run").train()
    before, _ = state_of(tmp_path / "run")
    resumed = Run(task(frozen=True), loop(steps=3), tmp_path / "run")
    names = [name for name, _ in resumed.task.networks["autoencoder"].named_parameters()]
    moments = resumed.optimisers["autoencoder"].state
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


# ---- the teacher and its cache


def save_taesd(folder, seed=0):
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    nets = {"encoder": taesd_module._encoder(), "decoder": taesd_module._decoder()}
    for name, net in nets.items():
        save_file(
            {key: value.bfloat16() for key, value in net.state_dict().items()}, folder / f"taesd_{name}.safetensors"
        )
    return nets


def test_taesd_loads_what_was_saved(tmp_path):
    nets = save_taesd(tmp_path)
    teacher = Taesd(tmp_path)
    image = torch.rand(1, 3, 32, 24)
    latent = teacher.encode(image)
    assert latent.shape == (1, 4, 4, 3)
    assert teacher.decode(latent).shape == image.shape
    assert torch.equal(latent, nets["encoder"].bfloat16().float()(image))
    assert not any(p.requires_grad for p in teacher.parameters())


def test_what_is_not_taesd_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="taesd_encoder"):
        Taesd(tmp_path)
    save_taesd(tmp_path)
    (tmp_path / "taesd_decoder.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="taesd_decoder"):
        Taesd(tmp_path)


def save_photos(folder, count=5, sides=((520, 512), (40, 600), (512, 512))):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        height, width = sides[index % len(sides)]
        Image.fromarray(small).resize((width, height)).save(folder / f"photo{index}.png")
    return find_images([folder])


def test_the_cache_holds_oriented_photographs_and_their_latents(tmp_path):
    paths = save_photos(tmp_path / "data")
    build_teacher_cache(tmp_path / "cache", paths, FlatTeacher(), seed=4)
    images, latents = (np.load(tmp_path / "cache" / f"{name}.npy") for name in ("images", "latents"))
    assert (images.shape, images.dtype) == ((5, 512, 512, 3), np.uint8)
    assert (latents.shape, latents.dtype) == ((5, 4, 64, 64), np.float16)
    for index, path in enumerate(paths):
        photo = np.asarray(Image.open(path))
        down, right = (max(0, 512 - side) for side in photo.shape[:2])
        photo = np.pad(photo, ((0, down), (0, right), (0, 0)), "reflect")[:512, :512]
        orientation = int(np.random.default_rng([4, index]).integers(8))
        photo = np.rot90(photo, orientation % 4)
        photo = photo[:, ::-1] if orientation >= 4 else photo
        assert np.array_equal(images[index], photo)
        means = photo.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3)).transpose(2, 0, 1) / 255 * 2 - 1
        assert np.abs(latents[index, :3] - means).max() < 0.01


def test_a_stopped_cache_equals_one_made_at_a_stretch(tmp_path, monkeypatch):
    paths = save_photos(tmp_path / "data")
    build_teacher_cache(tmp_path / "whole", paths, FlatTeacher(), seed=0)
    monkeypatch.setattr("adadiffsr_core.training.teacher._FLUSH_EVERY", 2)
    calls = []

    class Dying(FlatTeacher):
        def encode(self, image):
            calls.append(len(image))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return super().encode(image)

    with pytest.raises(KeyboardInterrupt):
        build_teacher_cache(tmp_path / "parts", paths, Dying(), seed=0)
    build_teacher_cache(tmp_path / "parts", paths, Dying(), seed=0)
    assert calls == [2, 2, 2, 1]  # the first batch was kept
    for name in ("images.npy", "latents.npy"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    build_teacher_cache(tmp_path / "parts", paths, Dying(), seed=0)
    assert len(calls) == 4


def test_a_cache_of_other_photographs_is_refused(tmp_path):
    paths = save_photos(tmp_path / "data", count=3)
    build_teacher_cache(tmp_path / "cache", paths[:2], FlatTeacher(), seed=0)
    with pytest.raises(ConfigError, match="other photographs; choose"):
        build_teacher_cache(tmp_path / "cache", paths, FlatTeacher(), seed=0)
    with pytest.raises(ConfigError, match="other photographs; choose"):
        build_teacher_cache(tmp_path / "cache", paths[1::-1], FlatTeacher(), seed=0)
    with pytest.raises(ConfigError, match="other seed; choose"):
        build_teacher_cache(tmp_path / "cache", paths[:2], FlatTeacher(), seed=1)


# ---- the command


def test_shipped_recipes_are_whole():
    autoencoder = AutoencoderRecipe.from_dict(read_recipe("autoencoder", None, {}, {}))
    ldm = LdmRecipe.from_dict(read_recipe("ldm", None, {}, {}))
    assert autoencoder.net.decoder_blocks == (5, 4)
    assert autoencoder.task.crop_px == 192
    assert ldm.net.channel_mult == (1, 2, 3)
    assert ldm.data.size_px == 256
    assert AutoencoderRecipe.from_dict(json.loads(json.dumps(autoencoder.to_dict()))) == autoencoder
    assert LdmRecipe.from_dict(json.loads(json.dumps(ldm.to_dict()))) == ldm


def test_a_recipe_is_changed_by_file_and_then_by_words(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"loop": {"steps": 9, "seed": 5}, "holdout": 0.2}))
    recipe = AutoencoderRecipe.from_dict(
        read_recipe("autoencoder", tmp_path / "mine.json", {"steps": 11}, {"batch_size": 3})
    )
    shipped = AutoencoderRecipe.from_dict(read_recipe("autoencoder", None, {}, {}))
    assert (recipe.loop.steps, recipe.loop.seed, recipe.holdout, recipe.task.batch_size) == (11, 5, 0.2, 3)
    assert recipe.net == shipped.net
    assert recipe.loop.warmup_steps == shipped.loop.warmup_steps


def write_config(path, **sections):
    path.write_text(json.dumps(sections))
    return path


def autoencoder_words(folder, config, steps=2):
    return [
        "train", "autoencoder", str(folder / "data"), "--run", str(folder / "ae"), "--teacher", str(folder / "taesd"),
        "--config", str(config), "--steps", str(steps), "--threads", "1",
    ]  # fmt: skip


def ldm_words(folder, config, *more):
    return [
        "train", "ldm", str(folder / "data"), "--run", str(folder / "ldm"), "--autoencoder",
        str(folder / "ae" / "weights.safetensors"), "--config", str(config), "--threads", "1", *map(str, more),
    ]  # fmt: skip


AE_SECTIONS = {
    "loop": {"check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1},
    "net": NET,
    "task": {"crop_px": 48, "batch_size": 2},
    "holdout": 0.4,
}
LDM_SECTIONS = {
    "loop": {"check_every": 2, "save_every": 1, "warmup_steps": 1, "log_every": 1, "steps": 2},
    "net": {"model_channels": 32, "channel_mult": [1, 1], "num_res_blocks": 1},
    "task": {"batch_size": 2},
    "data": {"size_px": 64, "min_scale": 1.0},
    "pairs": 6,
    "held_out": 6,
    "holdout": 0.4,
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Photographs and a teacher; the autoencoder command's own teacher class is replaced by the fast one."""
    paths = save_photos(tmp_path / "data")
    split = split_photos(paths, 0.4)
    assert split.train
    assert split.held_out
    monkeypatch.setattr(train_autoencoder, "Taesd", FlatTeacher)
    return tmp_path


def test_both_networks_are_trained_by_command(project, capsys):
    ae_config = write_config(project / "ae.json", **AE_SECTIONS)
    assert main(autoencoder_words(project, ae_config)) == 0
    assert capsys.readouterr().out == f"{project / 'ae' / 'weights.safetensors'}: autoencoder after 2 steps\n"
    assert load_autoencoder(project / "ae" / "weights.safetensors").config == AUTOENCODER
    ldm_config = write_config(project / "ldm.json", **LDM_SECTIONS)
    assert main(ldm_words(project, ldm_config)) == 0
    assert load_checkpoint(project / "ldm" / "weights.safetensors", "ldm").facts["steps"] == 2
    assert {path.name for path in (project / "ldm").iterdir()} == {
        "held_out", "pairs", "losses.png", "origin.json", "recipe.json", "sheet-0000002.png", "state.safetensors",
        "weights.safetensors",
    }  # fmt: skip
    small = project / "small.png"
    Image.new("RGB", (16, 16), (80, 120, 40)).save(small)
    words = ["upscale", str(small), "-o", str(project / "big.png"), "--steps", "2"]
    assert main([*words, "--model", str(project / "ldm" / "weights.safetensors")]) == 0

    # prolonged; then refused, with another set of photographs, another autoencoder, or other networks
    assert main(ldm_words(project, ldm_config, "--steps", 3)) == 0
    assert state_of(project / "ldm")[1] == 3
    other_net = write_config(
        project / "other.json", **LDM_SECTIONS | {"net": {**LDM_SECTIONS["net"], "num_res_blocks": 2}}
    )
    other_data = write_config(project / "data.json", **LDM_SECTIONS | {"data": {"size_px": 64, "mild_prob": 0.9}})
    for words, sentence in (
        (ldm_words(project, other_net), "was made with other networks"),
        (ldm_words(project, other_data), "was made with other settings"),
        (ldm_words(project, ldm_config, "--seed", 9), "was made with other settings"),
    ):
        assert refusal(words, capsys).count(sentence) == 1
    assert main(autoencoder_words(project, ae_config, steps=3)) == 0
    assert "was made with other autoencoder" in refusal(ldm_words(project, ldm_config), capsys)
    Image.new("RGB", (512, 512)).save(project / "data" / "new.png")
    assert "was made with other photographs" in refusal(autoencoder_words(project, ae_config), capsys)
    assert "was made with other photographs" in refusal(ldm_words(project, ldm_config), capsys)


def refusal(words, capsys):
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("adadiffsr: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_bad_training_input_gets_one_sentence(project, capsys):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    words = autoencoder_words(project, config)

    def changed(**sections):
        name = f"bad{len(list(project.glob('bad*.json')))}.json"
        return autoencoder_words(project, write_config(project / name, **AE_SECTIONS | sections))

    (project / "void").mkdir()
    (project / "nonsense.json").write_text("{")
    (project / "list.json").write_text("[]")
    for bad, sentence in (
        (changed(loop={"speed": 1}), "LoopConfig has no setting speed"),
        (changed(extra={}), "AutoencoderRecipe has no setting extra"),
        (changed(loop=3), "loop must be a section"),
        (changed(task={"crop_px": 100}), "crop_px must be a multiple of 8 up to 512, got 100"),
        (changed(task={"crop_px": 32}), "use more than 32"),
        (changed(task={"crop_px": 1024}), "crop_px must be a multiple of 8 up to 512, got 1024"),
        (changed(net={**NET, "patch": 2}), "1/8 of the size"),
        (changed(holdout=0.0001), "0 are held out"),
        (changed(holdout=2), "holdout must be a share"),
        ([*words, "--learning-rate", "-1"], "learning_rate above 0"),
        ([*words, "--batch-size", "0"], "batch_size"),
        ([*words, "--threads", "0"], "--threads must be at least 1"),
        (autoencoder_words(project, project / "absent.json"), "absent.json cannot be read"),
        (autoencoder_words(project, project / "nonsense.json"), "nonsense.json is not JSON"),
        (autoencoder_words(project, project / "list.json"), "must hold sections"),
        (["train", "autoencoder", str(project / "void"), *words[3:]], "no image"),
        (["train", "autoencoder", str(project / "gone"), *words[3:]], "is not a folder"),
        (["train", "unet"], "invalid choice"),
        (ldm_words(project, write_config(project / "ldm.json", **LDM_SECTIONS)), "weights file"),
        (changed(loop={"steps": "many", "seed": "x"}, task={"crop_px": "wide"}), "a value of the wrong kind"),
    ):
        assert sentence in refusal(bad, capsys), sentence
    assert not (project / "ae" / "state.safetensors").exists()


def test_a_run_begins_with_given_weights_and_goes_on_with_its_own(project, capsys):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    assert main(autoencoder_words(project, config)) == 0
    first = project / "ae" / "weights.safetensors"
    frozen = write_config(
        project / "frozen.json", **AE_SECTIONS | {"task": {**AE_SECTIONS["task"], "freeze_encoder": True}}
    )
    words = [*autoencoder_words(project, frozen), "--init", str(first)]
    words[words.index(str(project / "ae"))] = str(project / "decoder")
    assert main(words) == 0
    begun, ended = (load_checkpoint(path).tensors for path in (first, project / "decoder" / "weights.safetensors"))
    moved = {key.split(".")[1] for key in begun if not torch.equal(begun[key], ended[key])}
    assert moved == {"decoder"}
    assert main(words) == 0  # nothing left to do, and nothing begun again
    assert load_state(project / "decoder" / "state.safetensors")[1]["step"] == 2
    again = load_checkpoint(project / "decoder" / "weights.safetensors").tensors
    assert all(torch.equal(again[key], ended[key]) for key in ended)
    words[words.index(str(first))] = str(project / "absent.safetensors")
    assert "absent.safetensors does not exist" in refusal(words, capsys)


def test_ctrl_c_in_training_is_130_and_goes_on_later(project, capsys, monkeypatch):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    turns = AutoencoderTask.turns

    def interrupt(self, step):
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return turns(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "turns", interrupt)
        assert main(autoencoder_words(project, config, steps=4)) == 130
    assert "adadiffsr: stopped" in capsys.readouterr().err
    assert state_of(project / "ae")[1] == 2
    assert main(autoencoder_words(project, config, steps=4)) == 0
    assert state_of(project / "ae")[1] == 4


def test_a_missing_training_extra_is_named(project, capsys, monkeypatch):
    config = write_config(project / "ae.json", **AE_SECTIONS)
    find = train_common.importlib.util.find_spec
    monkeypatch.setattr(
        train_common.importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    assert "training needs matplotlib: pip install 'adadiffsr[train]'" in refusal(
        autoencoder_words(project, config), capsys
    )
