"""Three ways to bring features of the low-quality latent into one level of a UNet's encoder.

Source: section 3.4, Eq. 3, and its rivals in Table 5. Each starts as zero, so that an untrained one changes nothing.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layout import start_at_zero

# What an encoder level gets added: a tensor, or what makes one of the level's own features.
Residual = Tensor | Callable[[Tensor], Tensor]

HEADS = 4


class Modulation(nn.Module):
    """PFJ, Eq. 3 for one level: `o_hat = scale * o + shift`, `(scale, shift) = phi(o, I)`."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, channels, 1)
        self.gain = nn.Linear(width, width)
        self.phi = start_at_zero(nn.Conv2d(width, 2 * channels, 1))

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Features `[B,width,h,w]` and the gain's embedding `[B,width]` to a residual `[B,channels,h,w]`."""
        hidden = F.silu(features + self.gain(embedding)[:, :, None, None])
        scale, shift = self.phi(hidden).chunk(2, dim=1)
        return cast(Tensor, scale * self.project(features) + shift)


class Concatenation(nn.Module):
    """CC: o's features and the level's own side by side, through a 1x1 convolution.

    Source: Table 5.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.project = start_at_zero(nn.Conv2d(width + channels, channels, 1))

    def forward(self, features: Tensor, own: Tensor) -> Tensor:
        """Features `[B,width,h,w]` and the level's own `[B,channels,h,w]` to a residual like `own`."""
        return cast(Tensor, self.project(torch.cat([features, own.to(features.dtype)], dim=1)))


class CrossAttention(nn.Module):
    """CA: each place of the level asks all places of o's features.

    Source: Table 5. Attention is quadratic in the area, as it is in Stable Diffusion.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        # What a level holds is not of unit size, and would make the attention sharp from the start.
        self.norm = nn.GroupNorm(1, channels)
        self.query = nn.Conv2d(channels, width, 1)
        self.key_value = nn.Conv2d(width, 2 * width, 1)
        self.out = start_at_zero(nn.Conv2d(width, channels, 1))

    def forward(self, features: Tensor, own: Tensor) -> Tensor:
        """Features `[B,width,h,w]` and the level's own `[B,channels,h,w]` to a residual like `own`."""
        # Backward through the norm of a channels-last tensor that needs no gradient crashes torch 2.13.
        contiguous = own.to(features.dtype).contiguous()
        query = _split_heads(self.query(self.norm(contiguous)))
        key, value = map(_split_heads, self.key_value(features).chunk(2, dim=1))
        seen = F.scaled_dot_product_attention(query, key, value)
        merged = seen.transpose(2, 3).reshape(len(own), -1, *own.shape[-2:])
        return cast(Tensor, self.out(merged.contiguous(memory_format=torch.channels_last)))


def _split_heads(x: Tensor) -> Tensor:
    """`[B,width,h,w]` to `[B,HEADS,h*w,width/HEADS]`."""
    return x.reshape(len(x), HEADS, -1, x.shape[-2] * x.shape[-1]).transpose(2, 3).contiguous()
