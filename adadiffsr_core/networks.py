"""Networks out of weights files: built from the config that lies with them, checked, and made ready to run."""

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .checkpoint import Checkpoint, load_checkpoint
from .config import Config
from .errors import CheckpointError, ConfigError
from .nets.autoencoder import Autoencoder, AutoencoderConfig
from .nets.layout import channels_last
from .nets.mmle import Mmle, MmleConfig
from .nets.pfj import Pfj, PfjConfig
from .nets.unet import UNet, UNetConfig
from .scales import Scales
from .schedule import Schedule

C = TypeVar("C", bound=Config)
N = TypeVar("N", bound=nn.Module)

# Key prefixes, the same in every kind of file; those of UNet and autoencoder are LDM's.
UNET_PREFIX = "model.diffusion_model."
AUTOENCODER_PREFIX = "first_stage_model."
MMLE_PREFIX = "mmle."
PFJ_PREFIX = "pfj."


def load_mmle(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Mmle:
    """Load an MMLE regressor from a file of its own or from a bundle.

    Source: DESIGN section 7.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    return build_mmle(load_checkpoint(path, "mmle", "bundle"), device, dtype)


def load_pfj(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Pfj:
    """Load a PFJ from a file of its own or from a bundle.

    Source: DESIGN section 7.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    return build_pfj(load_checkpoint(path, "pfj", "bundle"), device, dtype)


def build_unet(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> UNet:
    """The UNet of a file that was read; see `load_mmle`."""
    net = UNet(read_config(checkpoint, "unet", UNetConfig))
    return _fill(net, checkpoint, UNET_PREFIX, device, dtype)


def build_autoencoder(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> Autoencoder:
    """The autoencoder of a file that was read; see `load_mmle`."""
    net = Autoencoder(read_config(checkpoint, "autoencoder", AutoencoderConfig))
    return _fill(net, checkpoint, AUTOENCODER_PREFIX, device, dtype)


def build_mmle(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> Mmle:
    """The MMLE regressor of a file that was read; see `load_mmle`."""
    return _fill(Mmle(read_config(checkpoint, "mmle", MmleConfig)), checkpoint, MMLE_PREFIX, device, dtype)


def build_pfj(checkpoint: Checkpoint, device: torch.device | str, dtype: torch.dtype) -> Pfj:
    """The PFJ of a file that was read; see `load_pfj`."""
    return _fill(Pfj(read_config(checkpoint, "pfj", PfjConfig)), checkpoint, PFJ_PREFIX, device, dtype)


def check_latents(unet: UNet, autoencoder: Autoencoder) -> None:
    """Check that a UNet restores the latents that an autoencoder makes.

    Raises:
        ConfigError: it was made for others.
    """
    made, taken = autoencoder.config.z_channels, (unet.config.in_channels, unet.config.out_channels)
    if taken != (2 * made, made):
        raise ConfigError(
            f"this UNet takes {taken[0]} channels and gives {taken[1]}; latents of {made}, as the autoencoder's, "
            f"need {2 * made} and {made}"
        )


def check_fit(unet: UNet, mmle: Mmle | None, pfj: Pfj | None) -> None:
    """Check that the two small networks, where there are any, are for this UNet.

    Raises:
        ConfigError: they are for other latents or another UNet.
    """
    latent, widths = unet.config.out_channels, unet.config.widths
    for name, net in (("MMLE", mmle), ("PFJ", pfj)):
        if net is not None and net.config.latent_channels != latent:
            raise ConfigError(
                f"this {name} is for latents of {net.config.latent_channels} channels, not {latent} as the model's"
            )
    if pfj is not None and pfj.config.channels != widths:
        raise ConfigError(f"this PFJ is for a UNet of widths {pfj.config.channels}, not {widths} as the model's")


def read_config(checkpoint: Checkpoint, name: str, config: type[C]) -> C:
    """The config of one network in a file.

    Raises:
        CheckpointError: it is missing, or no such network can be built.
    """
    section = checkpoint.section(name)
    try:
        return config.from_dict(section)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.path} has a config that cannot be used: {error}") from error


def read_schedule(checkpoint: Checkpoint) -> Schedule:
    """What a file's diffusion model was trained on, predicts and denoises.

    Raises:
        CheckpointError: it does not say, or says something unknown.
    """
    section = checkpoint.section("schedule")
    try:
        return Schedule(**section)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.path} has a config that cannot be used: {error}") from error


def read_scales(checkpoint: Checkpoint) -> Scales:
    """How many times larger a file's diffusion model was trained to make pictures: `"scales": [least, most]`.

    Raises:
        CheckpointError: what it says is no range of factors.
    """
    section: object = checkpoint.config.get("scales")
    if section is None:
        return Scales()
    try:
        least, most = map(float, section if isinstance(section, list) else ())
        return Scales(least, most)
    except (ConfigError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint.path} has scales {section!r} that cannot be used; they are two factors such as [3, 8]"
        ) from error


def _fill(net: N, checkpoint: Checkpoint, prefix: str, device: torch.device | str, dtype: torch.dtype) -> N:
    checkpoint.load_into(net, prefix)
    return channels_last(net).to(device, dtype).eval().requires_grad_(False)
