"""TAESD, the teacher that our autoencoder may learn Stable Diffusion's latent space from: that of 1 and 2, or of 3.

Source: https://github.com/madebyollin/taesd (MIT), described here from its published layer list.
The weights are not part of this project: `adadiffsr train autoencoder` takes their folder.
"""

from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import CheckpointError
from ...text import shown


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x) + x)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


def _encoder(channels: int, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), _Block(width)]
    for _ in range(3):
        layers.append(nn.Conv2d(width, width, 3, padding=1, stride=2, bias=False))
        layers += [_Block(width) for _ in range(3)]
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))


def _decoder(channels: int, width: int = 64) -> nn.Sequential:
    layers: list[nn.Module] = [_Clamp(), nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [_Block(width) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
    return nn.Sequential(*layers, _Block(width), nn.Conv2d(width, 3, 3, padding=1))


# File name prefix and channels of the spaces there is a TAESD of.
_SPACES = {"taesd": 4, "taesd3": 16}


class Taesd(nn.Module):
    """TAESD's encoder and decoder, frozen.

    Args:
        folder: holds `taesd_encoder.safetensors` and `taesd_decoder.safetensors`, or the same of `taesd3`, the layout
            of ComfyUI's `models/vae_approx`.

    Attributes:
        channels: of its latents: 4 in the space of Stable Diffusion 1 and 2, 16 in that of 3.

    Raises:
        CheckpointError: a file is missing or is not TAESD.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        space = next((name for name in _SPACES if (folder / f"{name}_encoder.safetensors").is_file()), "taesd")
        self.channels = _SPACES[space]
        self.encoder, self.decoder = _encoder(self.channels), _decoder(self.channels)
        for name, net in (("encoder", self.encoder), ("decoder", self.decoder)):
            path = folder / f"{space}_{name}.safetensors"
            try:
                if not path.is_file():  # nor a pipe, which might never end
                    raise OSError("it is missing, or no ordinary file")
                net.load_state_dict({k: v.float() for k, v in load_file(path).items()})
            except (OSError, RuntimeError, SafetensorError) as error:
                raise CheckpointError(f"{path} is not TAESD's {name}: {shown(str(error), 120)}") from error
        self.requires_grad_(False).eval()

    def encode(self, image: Tensor) -> Tensor:
        """Image `[N,3,H,W]` in [0,1], sides multiples of 8, to scaled latents `[N,channels,H/8,W/8]`."""
        return cast(Tensor, self.encoder(image))

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latents `[N,channels,h,w]` to an image `[N,3,8h,8w]`, about [0,1]."""
        return cast(Tensor, self.decoder(latent))
