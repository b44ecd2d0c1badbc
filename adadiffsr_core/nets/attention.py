"""Attention of Stable Diffusion's UNets, with LDM's key names and, for one state dict, LDM's output.

Without a text to read it is self-attention alone: LDM's block without its second attention.

Source: Rombach et al. 2022 (LDM), section 3.3; key names of its `SpatialTransformer`.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from .layout import start_at_zero

# Of every GroupNorm in LDM's networks.
GROUPS = 32


class _Attention(nn.Module):
    """Multi-head attention to `context`, or to the input itself."""

    def __init__(self, channels: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        # LDM's files number the layers with a dropout behind; it never does anything here.
        self.to_out = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        queries, keys, values = self.to_q(x), self.to_k(context), self.to_v(context)
        mixed = F.scaled_dot_product_attention(self._split(queries), self._split(keys), self._split(values))
        return cast(Tensor, self.to_out(mixed.transpose(1, 2).flatten(2)))

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class _GatedGelu(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return cast(Tensor, value * F.gelu(gate))


class _FeedForward(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(_GatedGelu(channels, 4 * channels), nn.Dropout(0.0), nn.Linear(4 * channels, channels))


class _Block(nn.Module):
    """Self-attention, attention to the context if there is any, and a gated layer, each added to what comes in."""

    def __init__(self, channels: int, context: int | None, heads: int) -> None:
        super().__init__()
        self.reads = context is not None
        self.attn1 = _Attention(channels, channels, heads)
        if context is not None:
            self.attn2 = _Attention(channels, context, heads)
        self.ff = _FeedForward(channels)
        self.norm1 = nn.LayerNorm(channels)
        if context is not None:
            self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        seen = self.norm1(x)
        x = x + cast(Tensor, self.attn1(seen, seen))
        if self.reads:
            x = x + cast(Tensor, self.attn2(self.norm2(x), context))
        return x + cast(Tensor, self.ff(self.norm3(x)))


class SpatialTransformer(nn.Module):
    """One transformer block over the pixels of a feature map; starts as the identity.

    Args:
        channels: of the feature map, a multiple of `heads` and of 32.
        context: width of the text embedding's tokens; None is self-attention alone.
        heads: of every attention.
        linear: project by linear layers (Stable Diffusion 2) rather than 1x1 convolutions (1).
    """

    def __init__(self, channels: int, context: int | None, heads: int, *, linear: bool) -> None:
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in: nn.Module = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([_Block(channels, context, heads)])
        self.proj_out: nn.Module = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        start_at_zero(self.proj_out)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """`[N,channels,h,w]` and `[N,T,context]`, or no context where none is read, to `[N,channels,h,w]`."""
        height, width = x.shape[-2:]
        h = self.norm(x)
        h = self.proj_in(_to_tokens(h)) if self.linear else _to_tokens(self.proj_in(h))
        for block in self.transformer_blocks:
            h = block(h, context)
        if self.linear:
            return x + _to_map(self.proj_out(h), height, width)
        return x + cast(Tensor, self.proj_out(_to_map(h, height, width)))


def _to_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _to_map(tokens: Tensor, height: int, width: int) -> Tensor:
    return tokens.transpose(1, 2).reshape(len(tokens), -1, height, width)
