"""What tests of evaluation share: a tiny model, and test sets of noise."""

import pytest
import torch

from adadiffsr_core.models.model import Model
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.photo.value import Photo
from adadiffsr_core.photo.writing import write_photo
from adadiffsr_core.sampling.schedule import Schedule
from tests.oracles import randomise


def make_model():
    unet = randomise(UNet(UNetConfig(model_channels=32, channel_mult=(1,), num_res_blocks=1)), 1)
    coder = randomise(Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))), 2)
    return Model(unet.eval(), coder.eval(), Schedule("v"))


def save_noise(folder, count, side, first=0):
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        pixels = torch.rand(3, side, side, generator=torch.Generator().manual_seed(number))
        write_photo(Photo(pixels=pixels), folder / f"{number}.png")


@pytest.fixture
def pairs(tmp_path):
    save_noise(tmp_path / "lq", 3, 8)
    save_noise(tmp_path / "gt", 3, 32)
    return tmp_path
