"""A random-weight model of ours in a latent space of its own: 16 channels, and self-attention in the UNet."""

import torch

from adadiffsr_core.models.checkpoint import Checkpoint, save_checkpoint
from adadiffsr_core.models.latent_colours import plain_colours
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.mmle import Mmle, MmleConfig
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from tests.oracles import randomise

CHANNELS = 16
UNET = UNetConfig(
    in_channels=2 * CHANNELS, out_channels=CHANNELS, model_channels=32, channel_mult=(1, 2, 2), num_res_blocks=2,
    attention_levels=(2,), num_head_channels=32,
)  # fmt: skip
AUTOENCODER = AutoencoderConfig(
    z_channels=CHANNELS, channels=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1), padding="replicate"
)
NETWORKS = {
    "model.diffusion_model": ("unet", UNet, UNET),
    "first_stage_model": ("autoencoder", Autoencoder, AUTOENCODER),
    "mmle": ("mmle", Mmle, MmleConfig(latent_channels=CHANNELS, widths=(8,), hidden=6)),
    "pfj": ("pfj", Pfj, PfjConfig(latent_channels=CHANNELS, channels=UNET.widths, width=8)),
}


def write_bundle(path, *, small=True, **config):
    """Write it, with MMLE and PFJ if `small`; `config` is added to the file's."""
    config, tensors = {"schedule": {"prediction": "v"}, **config}, {}
    for seed, (prefix, (name, network, shape)) in enumerate(NETWORKS.items()):
        if small or name not in ("mmle", "pfj"):
            weights = randomise(network(shape), seed).state_dict()
            tensors |= {f"{prefix}.{key}": value for key, value in weights.items()}
            config[name] = shape.to_dict()
    save_checkpoint(Checkpoint("bundle", config, tensors), path, torch.float32)
    return path


def preview():
    """Colours as a bundle has them, unlike the plain ones."""
    colours = plain_colours(CHANNELS).to_dict()
    return {"factors": colours["factors"][::-1], "bias": [0.1, 0.2, -0.3]}
