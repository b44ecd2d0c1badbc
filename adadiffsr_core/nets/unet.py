"""The compact diffusion UNet, with LDM's key names and, for one state dict, LDM's output.

Source: Rombach et al. 2022 (LDM) and Dhariwal and Nichol 2021 (ADM), without attention: at the
size of the embedded model, convolutions restore pictures better for the same time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..config import Config
from ..errors import ConfigError
from .pfj import encoder_slots

_GROUPS = 32

# What an encoder level gets added: a tensor, or what makes one of the level's own features.
Residual = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """Shape of a `UNet`.

    Attributes:
        in_channels: latent channels plus those of the concatenated condition.
        out_channels: latent channels.
        model_channels: width of the finest level, a multiple of 32.
        channel_mult: width of each level, as a multiple of `model_channels`.
        num_res_blocks: residual blocks per encoder level; the decoder has one more.
    """

    in_channels: int = 8
    out_channels: int = 4
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2, 3)
    num_res_blocks: int = 2

    def __post_init__(self) -> None:
        if self.model_channels < _GROUPS or self.model_channels % _GROUPS:
            raise ConfigError(f"model_channels must be a multiple of {_GROUPS}, got {self.model_channels}")
        if not self.channel_mult:
            raise ConfigError("channel_mult must have at least 1 level")
        if min(self.in_channels, self.out_channels, self.num_res_blocks, *self.channel_mult) < 1:
            raise ConfigError(f"channel counts and num_res_blocks must be at least 1, got {self}")

    @property
    def multiple(self) -> int:
        """Latent sides must be multiples of this."""
        return int(2 ** (len(self.channel_mult) - 1))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.model_channels * m for m in self.channel_mult)


def timestep_embedding(timesteps: Tensor, channels: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoids of `timesteps` `[N]`, as `[N,channels]` (Vaswani et al. 2017; cosines first, as in LDM)."""
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[:, None].float() * torch.exp(-math.log(max_period) / half * steps)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _norm_act_conv(channels: int, out_channels: int, *, dropout: bool = False) -> nn.Sequential:
    # LDM's files number the layers with a dropout in between; it never does anything here.
    gap = [nn.Dropout(0.0)] if dropout else []
    conv = nn.Conv2d(channels, out_channels, 3, padding=1)
    return nn.Sequential(nn.GroupNorm(_GROUPS, channels), nn.SiLU(), *gap, conv)


def _zero(layers: nn.Sequential) -> nn.Sequential:
    """Start the last convolution at zero, so that the block starts by doing nothing."""
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return layers


class ResBlock(nn.Module):
    """Two convolutions with the timestep's embedding added in between."""

    def __init__(self, channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = _norm_act_conv(channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels))
        self.out_layers = _zero(_norm_act_conv(out_channels, out_channels, dropout=True))
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """`[N,channels,h,w]` and `[N,embedding]` to `[N,out_channels,h,w]`."""
        h = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return cast(Tensor, self.skip_connection(x) + self.out_layers(h))


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.op(x))


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")))


class _Stage(nn.Sequential):
    """Layers in a row, some of which take the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """The network of a latent diffusion model, conditioned by concatenation.

    Source: key names and arithmetic of LDM's `openaimodel.UNetModel` without attention.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.slots = encoder_slots(len(config.widths), config.num_res_blocks)
        width, embedding = config.model_channels, config.model_channels * 4
        widths = list(config.widths)
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        first = _Stage(nn.Conv2d(config.in_channels, width, 3, padding=1))
        self.input_blocks, skips = _encoder(first, widths, config.num_res_blocks, embedding)
        self.middle_block = _Stage(ResBlock(widths[-1], widths[-1], embedding))
        self.output_blocks = _decoder(skips, widths, config.num_res_blocks, embedding)
        self.out = _zero(_norm_act_conv(widths[0], config.out_channels))

    def forward(self, x: Tensor, timesteps: Tensor, residuals: Sequence[Residual] | None = None) -> Tensor:
        """Predict noise, velocity or flow, whichever the weights were trained for.

        Args:
            x: scaled noisy latents and the concatenated condition, `[N,in_channels,h,w]`, sides
                multiples of `config.multiple`.
            timesteps: `[N]`, 0 to 999, large = noisy.
            residuals: what to add at the end of each encoder level, before it is handed on and to the decoder;
                `[N,config.widths[l],h/2^l,w/2^l]` for each level l, or functions from such features to them.

        Returns:
            `[N,out_channels,h,w]`.
        """
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(x.dtype))
        added = {} if residuals is None else dict(zip(self.slots, residuals, strict=True))
        skips: list[Tensor] = []
        for index, stage in enumerate(self.input_blocks):
            x = stage(x, embedding)
            if index in added:
                residual = added[index]
                x = x + (residual if isinstance(residual, Tensor) else residual(x))
            skips.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), embedding)
        return cast(Tensor, self.out(x))


def _encoder(first: _Stage, widths: list[int], blocks: int, embedding: int) -> tuple[nn.ModuleList, list[int]]:
    """The encoder's stages, and the widths of what they hand to the decoder."""
    stages, skips, width = [first], [widths[0]], widths[0]
    for level, level_width in enumerate(widths):
        for _ in range(blocks):
            stages.append(_Stage(ResBlock(width, level_width, embedding)))
            width = level_width
            skips.append(width)
        if level + 1 < len(widths):
            stages.append(_Stage(_Downsample(width)))
            skips.append(width)
    return nn.ModuleList(stages), skips


def _decoder(skips: list[int], widths: list[int], blocks: int, embedding: int) -> nn.ModuleList:
    """The decoder's stages, each of which takes one skip."""
    stages, width, waiting = [], widths[-1], list(skips)
    for level in reversed(range(len(widths))):
        for number in range(blocks + 1):
            layers: list[nn.Module] = [ResBlock(width + waiting.pop(), widths[level], embedding)]
            width = widths[level]
            if level and number == blocks:
                layers.append(_Upsample(width))
            stages.append(_Stage(*layers))
    return nn.ModuleList(stages)
