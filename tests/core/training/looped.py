"""Tasks of every kind for the loop that all training shares, and the states of two runs compared."""

import pytest
import torch

from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.nets.unet import UNetConfig
from adadiffsr_core.training.loop.config import LoopConfig
from adadiffsr_core.training.tasks.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from adadiffsr_core.training.tasks.decoder import DecoderTask, DecoderTaskConfig
from adadiffsr_core.training.tasks.ldm import LdmTask, LdmTaskConfig
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from tests.trained import (
    AUTOENCODER,
    RARE,
    FixedPairs,
    FlatTeacher,
    make_bank,
    make_pairs,
    make_pictures,
    make_sampled,
    state_of,
)

UNET = UNetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1)


def make_autoencoder_task(seed=3, processor=None, teacher=None, **settings):
    config = AutoencoderTaskConfig(**{"crop_px": 48, "batch_size": 2, **settings})
    bank = make_bank()
    return AutoencoderTask(
        AUTOENCODER, config, Examples(bank, bank), TaskSetup(processor or Processor(), seed), teacher
    )


@pytest.fixture(params=["autoencoder", "taught", "decoder", "ldm", "ldm, finished"])
def make_task(request, tmp_path):
    if request.param == "decoder":
        pairs = make_sampled(tmp_path / "sampled")
        torch.manual_seed(1)
        begun = Autoencoder(AUTOENCODER)
        seen = DecoderTaskConfig(batch_size=2, encoded_share=0.5, crop=4, adversarial_weight=0.1)
        return lambda processor=None: DecoderTask(
            begun, seen, Examples(pairs, pairs), TaskSetup(processor or Processor(), 3)
        )
    if not request.param.startswith("ldm"):
        teacher = FlatTeacher() if request.param == "taught" else None
        # the discriminator joins in the middle: its moments and spectral norms must be resumed as well
        return lambda processor=None: make_autoencoder_task(processor=processor, teacher=teacher, adversarial_from=2)
    pairs = make_pairs(tmp_path / "pairs")
    held_out = make_pairs(tmp_path / "held_out", count=6)
    torch.manual_seed(1)
    weight = 0.1 if request.param == "ldm, finished" else 0.0
    frozen, config = Autoencoder(AUTOENCODER), LdmTaskConfig(batch_size=2, adversarial_weight=weight)
    return lambda processor=None: LdmTask(
        UNET,
        config,
        frozen,
        Examples(FixedPairs(pairs), held_out),
        make_pictures(),
        TaskSetup(processor or Processor(), 3),
    )


def loop(steps=6, **more):
    return LoopConfig(**{"steps": steps, "warmup_steps": 3, "check_every": RARE, "save_every": RARE, **more})


def assert_same_state(folder, other):
    (tensors, step), (others, other_step) = state_of(folder), state_of(other)
    assert step == other_step
    assert tensors.keys() == others.keys()
    assert [key for key in tensors if not torch.equal(tensors[key], others[key])] == []
