"""TAESD as a teacher, of either latent space."""

import pytest
import torch
from safetensors.torch import save_file

from adadiffsr_core.errors import CheckpointError
from adadiffsr_core.training.tasks import taesd as taesd_module
from adadiffsr_core.training.tasks.taesd import Taesd


def save_taesd(folder, space="taesd", channels=4):
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    nets = {"encoder": taesd_module._encoder(channels), "decoder": taesd_module._decoder(channels)}
    for name, net in nets.items():
        save_file(
            {key: value.bfloat16() for key, value in net.state_dict().items()}, folder / f"{space}_{name}.safetensors"
        )
    return nets


@pytest.mark.parametrize(("space", "channels"), [("taesd", 4), ("taesd3", 16)])
def test_taesd_loads_what_was_saved(tmp_path, space, channels):
    nets = save_taesd(tmp_path, space, channels)
    teacher = Taesd(tmp_path)
    image = torch.rand(1, 3, 32, 24)
    latent = teacher.encode(image)
    assert latent.shape == (1, teacher.channels, 4, 3) == (1, channels, 4, 3)
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
