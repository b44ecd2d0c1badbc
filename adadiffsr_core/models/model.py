"""A model that is ready to run: all networks of one file, of our own architecture."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..gain.information import GainEstimator
from ..nets.autoencoder import Autoencoder
from ..nets.mmle import Mmle
from ..nets.pfj import Pfj
from ..nets.unet import UNet
from ..photo.checks import check_path
from ..photo.scales import Scales
from ..sampling.config import LatentSizes
from ..sampling.schedule import Schedule
from ..text import quoted
from .networks import check_fit, check_latents, open_networks, read_schedule

_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
TRAINED_SIDE = 64  # of the tiles that our own UNets are trained on, latent px


@dataclass(frozen=True)
class Model:
    """Networks that are ready to run.

    Attributes:
        unet, autoencoder: on one device, in one dtype.
        schedule: that the UNet was trained on.
        mmle, pfj: regressor of gain and feature injection for this UNet, or None.
        scales: how many times larger it was trained to make pictures.
        estimator: of gain; None goes by the regressor, or by `LatentStatistics` if there is none.

    Raises:
        ConfigError: UNet and autoencoder do not fit, or one of the two is for other latents or another UNet.
    """

    unet: UNet
    autoencoder: Autoencoder
    schedule: Schedule
    mmle: Mmle | None = None
    pfj: Pfj | None = None
    scales: Scales = field(default_factory=Scales)
    estimator: GainEstimator | None = None

    def __post_init__(self) -> None:
        check_latents(self.unet, self.autoencoder)
        check_fit(self.unet, self.mmle, self.pfj)

    @property
    def sizes(self) -> LatentSizes:
        """What tiles go by."""
        return LatentSizes(self.autoencoder.config.factor, self.unet.config.multiple, TRAINED_SIDE)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the networks compute in."""
        return next(self.unet.parameters()).dtype

    def to_network(self, tensor: Tensor) -> Tensor:
        """A tensor as the networks take it: on their device, in their dtype, channels last."""
        return tensor.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(self, image: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Image `[N,3,H,W]` in [0,1] to latents `[N,C,H/8,W/8]` float32; see `Autoencoder.encode` for `wanted`."""
        return self.autoencoder.encode(self.to_network(image), wanted).float()

    @torch.inference_mode()
    def decode(self, latent: Tensor, wanted: Tensor | None = None, device: torch.device | str | None = None) -> Tensor:
        """Latents to an image `[N,3,8h,8w]` float32, clamped to [0,1]; the rest as in `Autoencoder.decode`."""
        return self.autoencoder.decode(self.to_network(latent), wanted, device).float().clamp_(0, 1)


def embedded_weights() -> Path:
    """The file of the model that comes with the package."""
    # Beside this package, since inside ComfyUI the package goes by another name.
    return Path(__file__).parents[1] / "weights" / "embedded.safetensors"


def find_device(device: torch.device | str) -> torch.device:
    """A device that can be used.

    Raises:
        ConfigError: there is no such device, or it cannot be used.
    """
    try:
        found = torch.zeros(1, device=device).device
    except Exception:  # torch has no one way to say so, and of some kinds it misses a package
        found = torch.device("meta")
    if found.type == "meta":
        raise ConfigError(f"device {quoted(device, 80)} cannot be used on this machine; try cpu")
    return found


def load_model(
    path: str | Path | None = None, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Model:
    """Load a model of our own architecture; None is the embedded one.

    Raises:
        CheckpointError: the file cannot be used; the message says why.
        ImageError: it has a name that no file can have.
        ConfigError: the device cannot be used on this machine, or networks cannot compute in the dtype.
    """
    device = find_device(device)
    if dtype not in _DTYPES:
        names = ", ".join(str(each) for each in _DTYPES)
        raise ConfigError(f"networks compute in {names}; got {quoted(dtype, 80)}")
    networks = open_networks(embedded_weights() if path is None else check_path(path), "ldm", "bundle")
    schedule, scales = read_schedule(networks.checkpoint), networks.scales
    unet, autoencoder = networks.build(UNet, device, dtype), networks.build(Autoencoder, device, dtype)
    # Always exact: in bfloat16 it errs by as much as the threshold that its gains are compared with.
    mmle = networks.build(Mmle, device, torch.float32) if networks.has(Mmle) else None
    pfj = networks.build(Pfj, device, dtype) if networks.has(Pfj) else None
    return Model(unet, autoencoder, schedule, mmle, pfj, scales)
