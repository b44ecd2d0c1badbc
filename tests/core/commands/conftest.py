"""What tests of the command line share: a tiny model's file, `adadiffsr upscale` in its own folder, small bands."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.cli import main
from adadiffsr_core.models.checkpoint import save_checkpoint
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.streaming import layout as layout_module
from tests.oracles import to_checkpoint


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    unet = UNet(UNetConfig(model_channels=32, channel_mult=(1, 1), num_res_blocks=1))
    autoencoder = Autoencoder(AutoencoderConfig(channels=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1)))
    torch.nn.init.normal_(unet.out[-1].weight, std=0.05)
    made = to_checkpoint(unet, autoencoder)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_checkpoint(replace(made, config={**made.config, "scales": [0.01, 16384]}), path)
    return path


@pytest.fixture
def run(tmp_path, weights, capsys, monkeypatch):
    """Runs `adadiffsr upscale` in a folder of its own; gives code, lines on stdout, and refusals on stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words, steps=2):
        code = main(["upscale", *map(str, words), "--model", str(weights), "--steps", str(steps)])
        out, err = capsys.readouterr()
        spoken = [line for part in err.split("\r") for line in part.split("\n") if line.startswith("adadiffsr: ")]
        assert "Traceback" not in err
        return code, out.splitlines(), [line.removeprefix("adadiffsr: ") for line in spoken]

    return call


@pytest.fixture
def small_pieces(monkeypatch):
    """Many pieces in a small picture."""
    monkeypatch.setattr(layout_module, "_FINISHED_PX", 16)
