"""Training on a device that is not the CPU: nothing is made elsewhere, and nothing waits for it within a step."""

import warnings
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch

from adadiffsr_core.data.dataset import PairConfig
from adadiffsr_core.data.latent_pairs import PairEncoder
from adadiffsr_core.data.pair_source import DevicePairs, LivePairs, Window
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.models.ldm_format import LdmCheckpoint
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.nets.unet import UNetConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.tasks.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from adadiffsr_core.training.tasks.decoder import DecoderTask, DecoderTaskConfig
from adadiffsr_core.training.tasks.finetune import FinetuneTask, FinetuneTaskConfig
from adadiffsr_core.training.tasks.ldm import LdmTask, LdmTaskConfig
from adadiffsr_core.training.tasks.mmle import MmleTask, MmleTaskConfig
from adadiffsr_core.training.tasks.pfj import PfjTask, PfjTaskConfig
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from adadiffsr_core.training.walks.walked_model import OwnModel
from adadiffsr_core.training.walks.walks import walk_tiles
from tests.devices import META, WaitError, strictly_on
from tests.oracles import TINY_MMLE, TINY_PFJ, tiny_model
from tests.toy_sd import CONCAT, V2, randomised, save_sd
from tests.trained import AUTOENCODER, FixedPairs, FlatTeacher, make_bank, make_pairs, make_pictures, make_sampled
from tests.walked import NET, made_up

CPU = Processor()
EYES = {"perceptual_weight": 0.5, "adversarial_weight": 0.1}
LOOKS = "adadiffsr_core.training.tasks.picture_losses.StLpips"


class Distance(torch.nn.Module):
    """In the place of ST-LPIPS, whose package may not be installed."""

    widths = (4,)

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def features(self, image):
        return [self.conv(image)]

    def compare(self, features, reference_features):
        return (features[0] - reference_features[0]).square().mean(dim=(1, 2, 3))


def pfj(folder, processor, *, mode="pfj", estimator="statistics", prediction="v", seen=None, **more):
    pairs, held_out = make_pairs(folder / "pairs"), make_pairs(folder / "held_out", 6)
    mmle = processor.install(Mmle(TINY_MMLE))
    estimators = {"statistics": LatentStatistics(), "mmle": MmleEstimator(mmle)}
    net, config = replace(TINY_PFJ, mode=mode), PfjTaskConfig(batch_size=4, **(seen or {}))
    model = tiny_model(Schedule(prediction))
    setup = TaskSetup(processor, 3)
    with patch(LOOKS, Distance):
        return PfjTask(
            net, config, replace(model, estimator=estimators[estimator]), Examples(pairs, held_out), setup, **more
        )


def mmle(folder, processor):
    rated = made_up(folder / "walks", 6, 0), made_up(folder / "held_out", 4, 1)
    setup = TaskSetup(processor, 3)
    return MmleTask(NET, MmleTaskConfig(batch_size=4), Examples(*rated), PRESETS["everyday"], setup)


def finetune(folder, processor, *, unet=V2, **more):
    pairs, held_out = make_pairs(folder / "pairs"), make_pairs(folder / "held_out", 3)
    source = LdmCheckpoint(save_sd(folder / "sd.safetensors", unet))
    config = FinetuneTaskConfig(batch_size=2, pfj_width=8, **more)
    context = randomised(1, 7, unet.context_dim)
    examples, setup = Examples(pairs, held_out), TaskSetup(processor, 3)
    return FinetuneTask(source, config, context, examples, Autoencoder(AUTOENCODER), setup)


def autoencoder(folder, processor, *, teacher=None, **more):
    config = AutoencoderTaskConfig(crop_px=48, batch_size=2, adversarial_from=0, **more)
    bank = make_bank(device=processor.device)
    with patch("adadiffsr_core.training.tasks.autoencoder.StLpips", Distance):
        return AutoencoderTask(AUTOENCODER, config, Examples(bank, bank), TaskSetup(processor, 3), teacher)


def decoder(folder, processor, **more):
    torch.manual_seed(1)
    coder = Autoencoder(AUTOENCODER)
    pairs, held_out = (make_sampled(folder / name) for name in ("pairs", "held_out"))
    config = DecoderTaskConfig(batch_size=2, encoded_share=0.5, crop=4, **more)
    with patch(LOOKS, Distance):
        return DecoderTask(coder, config, Examples(pairs, held_out), TaskSetup(processor, 3))


def ldm(folder, processor, *, live=False, flat_share=0.0, **more):
    coder = processor.install(Autoencoder(AUTOENCODER))
    pairs, held_out = FixedPairs(make_pairs(folder / "pairs"), 3, processor), make_pairs(folder / "held_out", 6)
    if live:
        data = PairConfig(size_px=64, flat_share=flat_share, scales=(1.0, 4.0))
        bank = make_bank(device=processor.device)
        drawn = LivePairs(bank, PairEncoder(coder, processor), data, 1)
        pairs = DevicePairs(drawn, Window(length=4, chunk=2, renewal=1.0), 1)
    net = UNetConfig(
        model_channels=32, channel_mult=(1, 1), num_res_blocks=1, attention_levels=(1,), num_head_channels=32
    )
    config, setup = LdmTaskConfig(batch_size=2, **more), TaskSetup(processor, 3)
    with patch(LOOKS, Distance):
        return LdmTask(net, config, coder, Examples(pairs, held_out), make_pictures(), setup)


# Every task, in each way that it may take: a builder from (folder, processor).
TASKS = {
    "autoencoder": autoencoder,
    "autoencoder, taught": lambda *where: autoencoder(*where, teacher=FlatTeacher()),
    "autoencoder, seen by the eye": lambda *where: autoencoder(*where, perceptual_from=0),
    "decoder": decoder,
    "decoder, seen by the eye": lambda *where: decoder(*where, **EYES),
    "decoder, seen by eyes that have learnt to see": lambda *where: decoder(*where, **EYES, discriminator="features"),
    "ldm": ldm,
    "ldm, live pairs": lambda *where: ldm(*where, live=True),
    "ldm, live pairs, some of them plain": lambda *where: ldm(*where, live=True, flat_share=0.5),
    "ldm, seen by the eye": lambda *where: ldm(*where, **EYES),
    "ldm, seen on its own way": lambda *where: ldm(*where, **EYES, looks_at="sampled"),
    "ldm, seen by a discriminator alone": lambda *where: ldm(*where, adversarial_weight=0.1),
    "ldm, seen by eyes that have learnt to see": lambda *where: ldm(*where, **EYES, discriminator="features"),
    "ldm of the residual": lambda *where: ldm(*where, target="residual", snr_gamma=5.0),
    "ldm of a flow": lambda *where: ldm(*where, prediction="flow", snr_gamma=5.0),
    "pfj": pfj,
    "pfj by the regressor": lambda *where: pfj(*where, estimator="mmle"),
    "pfj of a flow": lambda *where: pfj(*where, prediction="flow"),
    "pfj and the UNet": lambda *where: pfj(*where, joint=True),
    "pfj, seen by the eye": lambda *where: pfj(*where, seen=EYES),
    "concatenation": lambda *where: pfj(*where, mode="concat"),
    "cross-attention": lambda *where: pfj(*where, mode="cross_attention"),
    "mmle": mmle,
    "finetune": finetune,
    "finetune, velocity": lambda *where: finetune(*where, prediction="v"),
    "finetune, no gain": lambda *where: finetune(*where, gain="none"),
    "finetune, two latents": lambda *where: finetune(*where, unet=CONCAT),
}


def take_step(task, step):
    losses = []
    for _, turn in task.turns(step):
        turn["total"].backward()
        losses += turn.values()
    return losses


@pytest.mark.parametrize("name", TASKS)
def test_a_step_stays_on_the_device_and_waits_for_nothing(name, tmp_path, monkeypatch):
    task = TASKS[name](tmp_path, META)
    take_step(task, 0)  # constants are made at first need
    with strictly_on(META, monkeypatch):
        losses = take_step(task, 1)
    trained = [weight for weight in task.networks.parameters() if weight.requires_grad]
    assert {tensor.device.type for tensor in (*losses, *trained)} == {"meta"}
    assert all(weight.grad is not None and weight.grad.device.type == "meta" for weight in trained)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", TASKS)
def test_a_gpu_is_not_waited_for_within_a_step(name, tmp_path):
    task = TASKS[name](tmp_path, Processor.open(torch.device("cuda")))
    for step in range(2):
        take_step(task, step)  # constants, and what cuDNN tries out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        losses = take_step(task, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(loss.isfinite()) for loss in losses)


def test_a_walk_waits_for_nothing_before_it_is_whole(monkeypatch):
    model, injection = tiny_model(), META.install(Pfj(TINY_PFJ))
    sampling, latent = PRESETS["everyday"], torch.zeros(2, 4, 8, 8, device=META.device)
    denoise = UNetDenoiser(META.install(model.unet), model.schedule, latent, build_grid(8, 8, 8, 0, 2), injection)
    codebook = OwnModel(model).build_codebook(sampling).to(META.device)
    paths = META.place(torch.tensor([[0, 12, 14, 20, 24], [0, 13, 17, 18, 24]]))
    denoise(latent, codebook.sigmas[paths[:, 0]], range(2), None)  # constants are made at first need
    with strictly_on(META, monkeypatch):
        seen = walk_tiles(denoise, codebook, latent, paths, range(2), None)
    assert (seen.device, seen.shape) == (META.device, (2, 4, 4, 8, 8))


@pytest.mark.parametrize("name", ["autoencoder", "decoder", "ldm", "ldm, live pairs", "pfj", "mmle", "finetune"])
def test_the_same_is_a_step_on_the_cpu(name, tmp_path, monkeypatch):
    """The watch takes nothing away: what goes through it has the loss that it has without."""
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        folder.mkdir()
    # Two of them, since a discriminator's spectral norms move with each look.
    task, same = (TASKS[name](folder, CPU) for folder in folders)
    plain = [loss.detach() for loss in take_step(task, 1)]
    with strictly_on(CPU, monkeypatch):
        watched = [loss.detach() for loss in take_step(same, 1)]
    assert all(map(torch.equal, plain, watched))
    assert all(bool(loss.isfinite()) for loss in plain)


SLIPS = {
    "made on the CPU": lambda loss: loss * torch.zeros(2)[0],
    "made there and moved": lambda loss: loss + torch.zeros(2).to(loss.device).sum(),
    "a constant anew": lambda loss: loss * torch.tensor([2.0], device=loss.device).sum(),
    "used by nobody": lambda loss: (torch.zeros(2), loss)[1],
    "read": lambda loss: loss * float(torch.zeros(())),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip, tmp_path, monkeypatch):
    task = TASKS["mmle"](tmp_path, META)
    predict = task._predict
    task._predict = lambda *rows: SLIPS[slip](predict(*rows))
    take_step(task, 0)  # without the watch most go unnoticed
    with strictly_on(META, monkeypatch), pytest.raises(WaitError):
        take_step(task, 1)
