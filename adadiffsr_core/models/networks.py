"""Networks out of weights files: built from the config that lies with them, checked, and made ready to run.

What a file's configs and headers say is compared first, on networks without memory. So a file that contradicts itself
costs no more than its header, whoever asks: the command line and the host read by the same checks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import CheckpointError, ConfigError
from ..nets.autoencoder import Autoencoder, AutoencoderConfig
from ..nets.layout import channels_last
from ..nets.mmle import Mmle, MmleConfig
from ..nets.pfj import Pfj, PfjConfig
from ..nets.unet import UNet, UNetConfig
from ..photo.scales import Scales
from ..sampling.schedule import Schedule
from ..text import quoted, shown
from .checkpoint import Checkpoint, load_checkpoint
from .latent_colours import LatentColours

C = TypeVar("C", bound=Config)
N = TypeVar("N", bound=nn.Module)

# Key prefixes, the same in every kind of file; those of UNet and autoencoder are LDM's.
UNET_PREFIX = "model.diffusion_model."
AUTOENCODER_PREFIX = "first_stage_model."
MMLE_PREFIX = "mmle."
PFJ_PREFIX = "pfj."


# Weights that a residual block or a level has at least.
_LEAST_WEIGHTS = 4


@dataclass(frozen=True)
class _Part:
    """One network of a file.

    Attributes:
        name: of its section in the config.
        prefix: of its keys.
        config: what the section is.
    """

    name: str
    prefix: str
    config: Any


_PARTS: dict[type[nn.Module], _Part] = {
    UNet: _Part("unet", UNET_PREFIX, UNetConfig),
    Autoencoder: _Part("autoencoder", AUTOENCODER_PREFIX, AutoencoderConfig),
    Mmle: _Part("mmle", MMLE_PREFIX, MmleConfig),
    Pfj: _Part("pfj", PFJ_PREFIX, PfjConfig),
}
_OTHERS = ("schedule", "preview", "scales")


class Networks:
    """A weights file whose parts are known to fit each other; none of its weights has been read.

    Attributes:
        checkpoint: the file.
        schedule: of its diffusion model, or None.
        colours: what previews of its latents show, or None.
        scales: that its diffusion model was trained for.

    Raises:
        CheckpointError: a config cannot be used, weights are not those that it says, or two parts do not fit.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        known = [part.name for part in _PARTS.values()] + list(_OTHERS)
        if unknown := [name for name in checkpoint.config if name not in known]:
            raise CheckpointError(f"{checkpoint.path} has a config of {shown(unknown[0], 80)}, which is unknown")
        self._empty = {net: self._outline(net) for net, part in _PARTS.items() if part.name in checkpoint.config}
        prefixes = tuple(_PARTS[net].prefix for net in self._empty)
        if unknown := sorted(key for key in checkpoint.tensors if not key.startswith(prefixes)):
            raise CheckpointError(
                f"{checkpoint.path} has {len(unknown)} weights of no network in its config, first "
                f"{shown(unknown[0], 80)}"
            )
        self.schedule = read_config(checkpoint, "schedule", Schedule) if "schedule" in checkpoint.config else None
        self.colours = read_config(checkpoint, "preview", LatentColours) if "preview" in checkpoint.config else None
        self.scales = read_scales(checkpoint)
        self._check_fit()

    def _outline(self, net: type[N]) -> N:
        """A network without memory, of which the file has all weights."""
        part, path = _PARTS[net], self.checkpoint.path
        config = read_config(self.checkpoint, part.name, part.config)
        found = sum(key.startswith(part.prefix) for key in self.checkpoint.tensors)
        if found < _LEAST_WEIGHTS * config.blocks:  # large ones take long to build, even so
            raise CheckpointError(f"{path} lacks weights of {part.prefix}*; it has {found}, too few for its config")
        with torch.device("meta"):
            empty = cast(Any, net)(config)
        self.checkpoint.check_weights(empty, part.prefix)
        return cast(N, empty)

    def _check_fit(self) -> None:
        unet, autoencoder = self._empty.get(UNet), self._empty.get(Autoencoder)
        mmle, pfj = self._empty.get(Mmle), self._empty.get(Pfj)
        try:
            if isinstance(unet, UNet) and isinstance(autoencoder, Autoencoder):
                check_latents(unet, autoencoder)
                check_fit(unet, cast(Mmle | None, mmle), cast(Pfj | None, pfj))
            if self.colours is not None and isinstance(autoencoder, Autoencoder):
                check_colours(self.colours, autoencoder)
        except ConfigError as error:
            raise CheckpointError(f"{self.checkpoint.path} has a config that cannot be used: {error}") from error

    def has(self, net: type[nn.Module]) -> bool:
        """Whether the file has such a network."""
        return net in self._empty

    def config(self, net: type[nn.Module]) -> Any:
        """The config of one network.

        Raises:
            CheckpointError: the file has none.
        """
        self.checkpoint.section(_PARTS[net].name)
        return cast(Any, self._empty[net]).config

    def read(self, net: type[nn.Module]) -> dict[str, Tensor]:
        """The weights of one network by its own keys, finite and of its shapes, in float32.

        Raises:
            CheckpointError: the file has none, or a weight is not finite.
        """
        self.checkpoint.section(_PARTS[net].name)
        return self.checkpoint.read_weights(self._empty[net], _PARTS[net].prefix)

    def build(self, net: type[N], device: torch.device | str, dtype: torch.dtype) -> N:
        """One network, ready to run.

        Raises:
            CheckpointError: the file has none, or a weight is not finite in `dtype`.
        """
        with torch.device("meta"):
            built = cast(N, cast(Any, net)(self.config(net))).to(dtype)
        self.checkpoint.load_into(built, _PARTS[net].prefix)
        return channels_last(built).to(device).eval().requires_grad_(False)


def open_networks(path: Path, *kinds: str) -> Networks:
    """Open a weights file of one of `kinds` and check all that it says, but its values.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    return Networks(load_checkpoint(path, *kinds))


def load_mmle(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Mmle:
    """Load an MMLE regressor from a file of its own or from a bundle.

    Source: docs/design.md, "Files".

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    return open_networks(path, "mmle", "bundle").build(Mmle, device, dtype)


def load_pfj(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Pfj:
    """Load a PFJ from a file of its own or from a bundle.

    Source: docs/design.md, "Files".

    Raises:
        CheckpointError: the file cannot be used; the message says why.
    """
    return open_networks(path, "pfj", "bundle").build(Pfj, device, dtype)


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


def check_colours(colours: LatentColours, autoencoder: Autoencoder) -> None:
    """Check that preview colours are those of an autoencoder's latents.

    Raises:
        ConfigError: they are for others.
    """
    given, channels = len(colours.factors), autoencoder.config.z_channels
    if given != channels:
        raise ConfigError(f"its preview has colours of {given} channels for {channels} of the latents")


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


def has_own_autoencoder(keys: Iterable[str]) -> bool:
    """Whether a file's keys are those of our autoencoder, which has LDM's names and no norms."""
    known = set(keys)
    return (
        f"{AUTOENCODER_PREFIX}encoder.down.0.block.0.conv1.weight" in known
        and f"{AUTOENCODER_PREFIX}encoder.down.0.block.0.norm1.weight" not in known
    )


def read_config(checkpoint: Checkpoint, name: str, config: type[C]) -> C:
    """The config of one network in a file.

    Raises:
        CheckpointError: it is missing, or no such network can be built.
    """
    section = checkpoint.section(name)
    try:
        return config.from_dict(section)
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint.path} has a config that cannot be used: {error}") from error


def read_schedule(checkpoint: Checkpoint) -> Schedule:
    """What a file's diffusion model was trained on, predicts and denoises.

    Raises:
        CheckpointError: it does not say, or says something unknown.
    """
    return read_config(checkpoint, "schedule", Schedule)


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
            f"{checkpoint.path} has scales {quoted(section)} that cannot be used; they are two factors such as [3, 8]"
        ) from error
