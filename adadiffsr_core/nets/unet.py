"""The compact diffusion UNet, with LDM's key names and, for one state dict, LDM's output.

Source: Rombach et al. 2022 (LDM) and Dhariwal and Nichol 2021 (ADM). A UNet may have no attention, as the
smallest, self-attention at its coarse levels, or attention to a text too: then it is that of Stable
Diffusion 1 and 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config import LEVELS, Channels, Config, Most
from ..errors import ConfigError, ShapeError
from .attention import GROUPS, SpatialTransformer
from .fusion import Residual
from .layout import start_at_zero
from .pfj import encoder_slots

# Of the encoder, twice as many as in Stable Diffusion.
_MOST_BLOCKS = 16


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """Shape of a `UNet`.

    Attributes:
        in_channels: latent channels plus those of the concatenated condition.
        out_channels: latent channels.
        model_channels: width of the finest level, a multiple of 32.
        channel_mult: width of each level, as a multiple of `model_channels`.
        num_res_blocks: residual blocks per encoder level; the decoder has one more.
        context_dim: width of the text embedding's tokens; None is a UNet that reads no text.
        attention_levels: levels that have attention, 0 the finest; with any, the middle has it too. It is
            self-attention, and with a `context_dim` attention to the text besides.
        num_heads: of every attention, or None if `num_head_channels` says it.
        num_head_channels: channels of a head, or None if `num_heads` says it.
        use_linear_in_transformer: linear projections about attention rather than 1x1 convolutions.
    """

    in_channels: Channels = 8
    out_channels: Channels = 4
    model_channels: Channels = 64
    channel_mult: Annotated[tuple[Annotated[int, Most(64)], ...], LEVELS] = (1, 2, 3)
    num_res_blocks: Annotated[int, Most(4)] = 2
    context_dim: Channels | None = None
    attention_levels: Annotated[tuple[int, ...], LEVELS] = ()
    num_heads: Channels | None = None
    num_head_channels: Channels | None = None
    use_linear_in_transformer: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_channels < GROUPS or self.model_channels % GROUPS:
            raise ConfigError(f"model_channels must be a multiple of {GROUPS}, got {self.model_channels}")
        if not self.channel_mult:
            raise ConfigError("channel_mult must have at least 1 level")
        if min(self.in_channels, self.out_channels, self.num_res_blocks, *self.channel_mult) < 1:
            counts = (self.in_channels, self.out_channels, self.num_res_blocks, *self.channel_mult)
            raise ConfigError(f"channel counts and num_res_blocks must be at least 1, got {counts}")
        if len(self.channel_mult) * self.num_res_blocks > _MOST_BLOCKS:
            raise ConfigError(
                f"levels times num_res_blocks must be at most {_MOST_BLOCKS}, got {len(self.channel_mult)} times "
                f"{self.num_res_blocks}"
            )
        self._check_attention()

    def _check_attention(self) -> None:
        if not self.attention_levels:
            if self.context_dim is not None:
                raise ConfigError("a text is read by attention; give attention_levels with context_dim, or neither")
            return
        if self.context_dim is not None and self.context_dim < 1:
            raise ConfigError(f"context_dim must be at least 1, or None to read no text; got {self.context_dim}")
        levels = set(self.attention_levels)
        if not levels <= set(range(len(self.channel_mult))) or len(levels) < len(self.attention_levels):
            raise ConfigError(
                f"attention_levels must be among 0 to {len(self.channel_mult) - 1}, each once, got "
                f"{self.attention_levels}"
            )
        if (self.num_heads is None) == (self.num_head_channels is None):
            raise ConfigError("attention needs either num_heads or num_head_channels")
        unit = self.num_heads or self.num_head_channels or 0
        if unit < 1 or any(width % unit for width in self.widths):
            raise ConfigError(f"heads of {unit} do not divide the widths {self.widths}")

    @property
    def blocks(self) -> int:
        """How many residual blocks the network has: the decoder one more a level, the middle two."""
        return len(self.channel_mult) * (2 * self.num_res_blocks + 1) + 2

    @property
    def multiple(self) -> int:
        """Latent sides must be multiples of this."""
        return int(2 ** (len(self.channel_mult) - 1))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.model_channels * m for m in self.channel_mult)

    def attention(self, channels: int) -> SpatialTransformer:
        """The attention behind a residual block of this width, where there is any."""
        heads = self.num_heads or channels // (self.num_head_channels or channels)
        return SpatialTransformer(channels, self.context_dim, heads, linear=self.use_linear_in_transformer)


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
    return nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), *gap, conv)


class ResBlock(nn.Module):
    """Two convolutions with the timestep's embedding added in between."""

    def __init__(self, channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = _norm_act_conv(channels, out_channels)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels))
        self.out_layers = _norm_act_conv(out_channels, out_channels, dropout=True)
        start_at_zero(self.out_layers[-1])
        same = channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """`[N,channels,h,w]` and `[N,embedding]` to `[N,out_channels,h,w]`."""
        h = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        return cast(Tensor, self.skip_connection(x) + self.out_layers(h))


class _Downsample(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")))


class _Stage(nn.Sequential):
    """Layers in a row, some of which take the embedding or the context."""

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:  # type: ignore[override]
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding)
            else:
                x = layer(x, context) if isinstance(layer, SpatialTransformer) else layer(x)
        return x


class UNet(nn.Module):
    """The network of a latent diffusion model.

    Source: key names and arithmetic of LDM's `openaimodel.UNetModel`.

    Attributes:
        slots: the input blocks after which residuals are added.
        checkpointing: keep of each block only what comes in and compute it again in the backward pass: a third more
            time for a fraction of the memory.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.slots = encoder_slots(len(config.widths), config.num_res_blocks)
        width, embedding = config.model_channels, config.model_channels * 4
        last = config.widths[-1]
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.input_blocks, skips = _encoder(config, embedding)
        attended = [config.attention(last), ResBlock(last, last, embedding)] if config.attention_levels else []
        self.middle_block = _Stage(ResBlock(last, last, embedding), *attended)
        self.output_blocks = _decoder(config, skips, embedding)
        self.out = _norm_act_conv(config.widths[0], config.out_channels)
        start_at_zero(self.out[-1])

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        residuals: Sequence[Residual] | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Predict noise, velocity or flow, whichever the weights were trained for.

        Args:
            x: scaled noisy latents and the concatenated condition, `[N,in_channels,h,w]`, sides
                multiples of `config.multiple`.
            timesteps: `[N]`, 0 to 999, large = noisy.
            residuals: what to add at the end of each encoder level, before it is handed on and to the decoder;
                `[N,config.widths[l],h/2^l,w/2^l]` for each level l, or functions from such features to them.
            context: the text's embedding, `[N,T,config.context_dim]`; None if the UNet reads no text.

        Returns:
            `[N,out_channels,h,w]`.

        Raises:
            ShapeError: there is a context and none is read, or the other way round.
        """
        if (context is None) != (self.config.context_dim is None):
            raise ShapeError("this UNet reads a text embedding" if context is None else "this UNet reads no text")
        embedding = self.time_embed(timestep_embedding(timesteps, self.config.model_channels).to(x.dtype))
        added = {} if residuals is None else dict(zip(self.slots, residuals, strict=True))
        skips: list[Tensor] = []
        for index, stage in enumerate(self.input_blocks):
            x = self._run(stage, x, embedding, context)
            if index in added:
                residual = added[index]
                x = x + (residual if isinstance(residual, Tensor) else residual(x))
            skips.append(x)
        x = self._run(self.middle_block, x, embedding, context)
        for stage in self.output_blocks:
            x = self._run(stage, torch.cat([x, skips.pop()], dim=1), embedding, context)
        return cast(Tensor, self.out(x))

    def _run(self, stage: nn.Module, x: Tensor, embedding: Tensor, context: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # Nothing in a block is random.
            made = checkpoint(stage, x, embedding, context, use_reentrant=False, preserve_rng_state=False)
        else:
            made = stage(x, embedding, context)
        return cast(Tensor, made)


def _encoder(config: UNetConfig, embedding: int) -> tuple[nn.ModuleList, list[int]]:
    """The encoder's stages, and the widths of what they hand to the decoder."""
    width = config.widths[0]
    stages, skips = [_Stage(nn.Conv2d(config.in_channels, width, 3, padding=1))], [width]
    for level, level_width in enumerate(config.widths):
        for _ in range(config.num_res_blocks):
            layers: list[nn.Module] = [ResBlock(width, level_width, embedding)]
            width = level_width
            if level in config.attention_levels:
                layers.append(config.attention(width))
            stages.append(_Stage(*layers))
            skips.append(width)
        if level + 1 < len(config.widths):
            stages.append(_Stage(_Downsample(width)))
            skips.append(width)
    return nn.ModuleList(stages), skips


def _decoder(config: UNetConfig, skips: list[int], embedding: int) -> nn.ModuleList:
    """The decoder's stages, each of which takes one skip."""
    stages, width, waiting = [], config.widths[-1], list(skips)
    for level in reversed(range(len(config.widths))):
        for number in range(config.num_res_blocks + 1):
            layers: list[nn.Module] = [ResBlock(width + waiting.pop(), config.widths[level], embedding)]
            width = config.widths[level]
            if level in config.attention_levels:
                layers.append(config.attention(width))
            if level and number == config.num_res_blocks:
                layers.append(_Upsample(width))
            stages.append(_Stage(*layers))
    return nn.ModuleList(stages)
