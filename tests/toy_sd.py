"""Checkpoints of Stable Diffusion's layout at toy size."""

import torch
from safetensors.torch import save_file

from adadiffsr_core.nets.sd_encoder import SdEncoder, SdEncoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from tests.oracles import randomise

PREFIX = "model.diffusion_model."
SHAPE = {"model_channels": 32, "channel_mult": (1, 1), "num_res_blocks": 1, "attention_levels": (0,)}
V2 = UNetConfig(
    in_channels=4,
    context_dim=1024,
    num_head_channels=64,
    use_linear_in_transformer=True,
    **SHAPE | {"model_channels": 64},
)
V1 = UNetConfig(in_channels=4, context_dim=768, num_heads=8, **SHAPE)
CONCAT = UNetConfig(in_channels=8, context_dim=768, num_heads=8, **SHAPE)
ENCODER = SdEncoderConfig(channels=32, channel_mult=(1, 1, 1, 1), blocks=1)
OTHER = {"cond_stage_model.logit_scale": torch.tensor(4.6), "model_ema.num_updates": torch.tensor(7)}


def save_sd(path, config=V2, dtype=torch.float16, seed=0, **more):
    """A toy checkpoint: UNet, first stage, and keys that are nobody's business."""
    unet, encoder = randomise(UNet(config), seed), randomise(SdEncoder(ENCODER), seed + 1)
    tensors = {PREFIX + key: value.to(dtype) for key, value in unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value.to(dtype) for key, value in encoder.state_dict().items()}
    save_file(tensors | OTHER | more, path, {"modelspec.title": "toy"})
    return path


def randomised(*shape, seed=9):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
