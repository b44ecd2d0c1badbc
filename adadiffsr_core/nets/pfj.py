"""PFJ: features of the low-quality latent for each level of a UNet's encoder, modulated by information gain.

Source: section 3.4, Eq. 3. The features are computed once per tile; what depends on the gain is 1x1
convolutions, so that a step costs little. Its rivals in Table 5 differ in how features and level are fused, and
know nothing of the gain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Channels, Config, Most
from ..errors import ConfigError
from .fusion import HEADS, Concatenation, CrossAttention, Modulation, Residual

_LEAST_SCALE = 1e-12  # gains are divided by it

InjectionMode = Literal["pfj", "concat", "cross_attention"]

_FUSIONS: dict[InjectionMode, type[Modulation | Concatenation | CrossAttention]] = {
    "pfj": Modulation,
    "concat": Concatenation,
    "cross_attention": CrossAttention,
}


@dataclass(frozen=True, kw_only=True)
class PfjConfig(Config):
    """Shape of a `Pfj`.

    Attributes:
        latent_channels: of the low-quality latent.
        channels: width of the UNet at the end of each encoder level, finest first; (320, 640, 1280, 1280) in
            Stable Diffusion 1 and 2.
        width: of the features that are kept for each tile.
        gain_scale: gains up to this are told apart linearly, larger ones by their logarithm.
        mode: how features are fused: by Eq. 3, or as its rivals CC and CA in Table 5.
    """

    latent_channels: Channels = 4
    channels: Annotated[tuple[Channels, ...], Most(12)] = (64, 128, 192)
    width: Channels = 48
    gain_scale: Annotated[float, Most(1e6)] = 1e-3
    mode: InjectionMode = "pfj"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.channels or min(self.latent_channels, self.width, *self.channels) < 1:
            counts = (self.latent_channels, self.channels, self.width)
            raise ConfigError(f"latent_channels, channels and width must be at least 1, got {counts}")
        if not self.gain_scale >= _LEAST_SCALE:
            raise ConfigError(f"gain_scale must be above 0, at least {_LEAST_SCALE:g}, got {self.gain_scale}")
        if self.mode == "cross_attention" and self.width % HEADS:
            raise ConfigError(f"width must be a multiple of {HEADS} for cross_attention, got {self.width}")

    @property
    def blocks(self) -> int:
        """How many levels the network has."""
        return len(self.channels)

    @property
    def sees_gain(self) -> bool:
        """Whether the information gain changes anything."""
        return self.mode == "pfj"


def encoder_slots(levels: int, num_res_blocks: int) -> tuple[int, ...]:
    """The UNet's input block after which each level's residual is added: the level's last residual block.

    The first input block is a convolution; then come `num_res_blocks` for each level and, but for the last, one
    that halves the resolution. T2I-Adapters for Stable Diffusion 1 and 2 add their features there.
    """
    return tuple(level * (num_res_blocks + 1) + num_res_blocks for level in range(levels))


class _Block(nn.Module):
    """`x + conv2(silu(conv1(silu(x))))`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.conv2(F.silu(self.conv1(F.silu(x)))))


class Pfj(nn.Module):
    """Progressive feature injection, or a rival in its place.

    Source: section 3.4, Eq. 3, Table 5.
    """

    def __init__(self, config: PfjConfig) -> None:
        super().__init__()
        self.config = config
        width, levels = config.width, len(config.channels)
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        # As the UNet halves its own resolution, so that odd sizes round the same way.
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(levels - 1))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(levels))
        if config.sees_gain:
            self.embed = nn.Linear(2, width)
        fusion = _FUSIONS[config.mode]
        self.modulations = nn.ModuleList(fusion(width, channels) for channels in config.channels)

    def features(self, lq_latent: Tensor) -> tuple[Tensor, ...]:
        """What does not depend on the gain, to be computed once per tile.

        Args:
            lq_latent: the paper's o, `[B,C,h,w]` of any size, in the network's dtype.

        Returns:
            `[B,width,ceil(h/2^l),ceil(w/2^l)]` for each level l.
        """
        x = self.conv_in(lq_latent)
        features = [self.blocks[0](x)]
        for down, block in zip(self.down, self.blocks[1:], strict=True):
            features.append(block(down(features[-1])))
        return tuple(features)

    def modulate(self, features: Sequence[Tensor], gain: Tensor, strength: float = 1.0) -> tuple[Residual, ...]:
        """What the UNet's encoder levels get.

        Args:
            features: of `features`.
            gain: I_fr and I_nr of Eq. 1, `[B,2]` in [-1,1]; usually about 1e-3 in size.
            strength: that residuals are multiplied with: the fidelity dial.

        Returns:
            For each level l `[B,channels[l],ceil(h/2^l),ceil(w/2^l)]`, or, by the rivals, what makes that of the
            level's own features; zeros as long as it is untrained.
        """
        pairs = list(zip(self.modulations, features, strict=True))
        if not self.config.sees_gain:
            return tuple(partial(_fuse, fusion, feature, strength) for fusion, feature in pairs)
        # asinh is linear near 0 and logarithmic far from it, so ordinary gains are about 1 and none is too large.
        scaled = torch.asinh(gain.float() / self.config.gain_scale).to(features[0].dtype)
        embedding = F.silu(self.embed(scaled))
        return tuple(modulation(feature, embedding) * strength for modulation, feature in pairs)

    def forward(self, lq_latent: Tensor, gain: Tensor, strength: float = 1.0) -> tuple[Residual, ...]:
        """`modulate(features(lq_latent), gain, strength)`, for training."""
        return self.modulate(self.features(lq_latent), gain, strength)


def _fuse(fusion: nn.Module, features: Tensor, strength: float, own: Tensor) -> Tensor:
    return cast(Tensor, fusion(features, own)).to(own.dtype) * strength
