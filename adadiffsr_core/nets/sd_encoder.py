"""The encoder of Stable Diffusion's autoencoder, with LDM's key names and, for one state dict, LDM's output.

There is no decoder: fine-tuning looks at latents, and pictures of them are painted by the embedded model's
decoder, which speaks the same latents.
"""

from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import LEVELS, Blocks, Channels, Config, Most
from ..errors import ConfigError
from .attention import GROUPS

# Of Stable Diffusion 1 and 2: latents times this have about unit variance.
LATENT_SCALE = 0.18215


@dataclass(frozen=True, kw_only=True)
class SdEncoderConfig(Config):
    """Shape of an `SdEncoder`; Stable Diffusion's by default.

    Attributes:
        channels: width of the finest level, a multiple of 32.
        channel_mult: width of each level, as a multiple of `channels`.
        blocks: residual blocks per level.
        z_channels: latent channels.
    """

    channels: Channels = 128
    channel_mult: Annotated[tuple[Annotated[int, Most(64)], ...], LEVELS] = (1, 2, 4, 4)
    blocks: Blocks = 2
    z_channels: Channels = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels < GROUPS or self.channels % GROUPS:
            raise ConfigError(f"channels must be a multiple of {GROUPS}, got {self.channels}")
        if not self.channel_mult or min(self.blocks, self.z_channels, *self.channel_mult) < 1:
            counts = (self.blocks, self.z_channels, *self.channel_mult)
            raise ConfigError(f"blocks, z_channels and channel_mult must be at least 1, got {counts}")

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, along a side."""
        return int(2 ** (len(self.channel_mult) - 1))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


class _Block(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = _norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if channels != out_channels:
            self.nin_shortcut = nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + cast(Tensor, h)


class _Attention(nn.Module):
    """One head over all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        seen = self.norm(x)
        q, k, v = (layer(seen).flatten(2).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + cast(Tensor, self.proj_out(mixed.transpose(1, 2).reshape(x.shape)))


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(F.pad(x, (0, 1, 0, 1))))  # LDM pads right and bottom only


class _Level(nn.Sequential):
    def __init__(self, channels: int, out_channels: int, blocks: int, *, is_last: bool) -> None:
        super().__init__()
        widths = [channels] + [out_channels] * blocks
        self.block = nn.Sequential(*(_Block(a, b) for a, b in zip(widths, widths[1:], strict=False)))
        if not is_last:
            self.downsample = _Downsample(out_channels)


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1, self.block_2 = _Block(channels, channels), _Block(channels, channels)
        self.attn_1 = _Attention(channels)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.block_2(self.attn_1(self.block_1(x))))


class _Encoder(nn.Module):
    def __init__(self, config: SdEncoderConfig) -> None:
        super().__init__()
        widths = [config.channels * m for m in (1, *config.channel_mult)]
        last = len(config.channel_mult) - 1
        self.conv_in = nn.Conv2d(3, config.channels, 3, padding=1)
        pairs = enumerate(zip(widths, widths[1:], strict=False))
        self.down = nn.Sequential(*(_Level(a, b, config.blocks, is_last=level == last) for level, (a, b) in pairs))
        self.mid = _Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.z_channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.mid(self.down(self.conv_in(image)))
        return cast(Tensor, self.conv_out(F.silu(self.norm_out(x))))


class SdEncoder(nn.Module):
    """Image to Stable Diffusion's latents.

    Source: Rombach et al. 2022 (LDM), `AutoencoderKL`. The latent is the distribution's mode, as in the host.
    """

    def __init__(self, config: SdEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _Encoder(config)
        self.quant_conv = nn.Conv2d(2 * config.z_channels, 2 * config.z_channels, 1)

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """Encode an image.

        Args:
            image: `[N,3,H,W]` in [0,1] on any device, sides multiples of `config.factor`.

        Returns:
            Latents `[N,4,H/8,W/8]` of about unit variance, float32, on the image's device.
        """
        weight = self.quant_conv.weight
        moments = self.quant_conv(self.encoder(image.to(weight) * 2 - 1))
        return cast(Tensor, moments[:, : self.config.z_channels].float() * LATENT_SCALE).to(image.device)
