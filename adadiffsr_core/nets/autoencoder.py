"""The compact autoencoder: Stable Diffusion's latent space, or a wider one of its own, at a fraction of the cost.

Key names are those of LDM's first stage (`encoder.down.0.block.1.conv1` and so on). Two things
differ from it, both for speed on small machines: the image is folded into channels first
(`patch`, so no convolution ever runs at full resolution), and there are no norms and no
attention, so that a tile encodes or decodes to the same values as the same place of the whole.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import LEVELS, Blocks, Channels, Config, Most
from ..errors import ConfigError
from ..text import quoted
from .blocks import BlockMap
from .layout import start_at_zero

Padding = Literal["zeros", "replicate"]

# Side of the blocks in which large images are encoded and decoded, latent px; bounds memory, changes no value.
BLOCK = 128


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Config):
    """Shape of an `Autoencoder`.

    Attributes:
        in_channels: image channels.
        z_channels: latent channels.
        patch: side of the square of pixels folded into channels before the first convolution.
        channels: widths of the levels, finest first; each further level halves the resolution.
        encoder_blocks: residual blocks per encoder level.
        decoder_blocks: residual blocks per decoder level (coarsest included, finest first).
        padding: what convolutions see beyond the border: zeros, which tint a picture's edge, or its last pixels.
        decoder_border: latent px by which the last ones are repeated before decoding, and cut off again. Within the
            decoder a plain colour is a pattern of 2x2, so what it sees beyond the border is not what it sees inside.
    """

    in_channels: Annotated[int, Most(64)] = 3
    z_channels: Channels = 4
    patch: Annotated[int, Most(64)] = 4
    channels: Annotated[tuple[Channels, ...], LEVELS] = (64, 128)
    encoder_blocks: tuple[Blocks, ...] = (2, 3)
    decoder_blocks: tuple[Blocks, ...] = (4, 3)
    padding: Padding = "zeros"
    decoder_border: Annotated[int, Most(16)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_border < 0:
            raise ConfigError(f"decoder_border must not be negative, got {self.decoder_border}")
        if not len(self.channels) == len(self.encoder_blocks) == len(self.decoder_blocks):
            raise ConfigError(
                f"channels {quoted(self.channels, 60)}, encoder_blocks {quoted(self.encoder_blocks, 60)} and "
                f"decoder_blocks {quoted(self.decoder_blocks, 60)} must have one number for each level"
            )
        if not self.channels:
            raise ConfigError("channels must have at least 1 level")
        if min(self.in_channels, self.z_channels, self.patch, *self.channels) < 1:
            counts = (self.in_channels, self.z_channels, self.patch, *self.channels)
            raise ConfigError(f"channel counts and patch must be at least 1, got {counts}")
        if min(*self.encoder_blocks, *self.decoder_blocks) < 0:
            raise ConfigError(
                f"blocks must not be negative, got {self.encoder_blocks} of the encoder and {self.decoder_blocks} of "
                "the decoder"
            )

    @property
    def blocks(self) -> int:
        """How many residual blocks the network has."""
        return sum(self.encoder_blocks) + sum(self.decoder_blocks)

    @property
    def encoder_reach(self) -> int:
        """Pixels beyond a latent pixel's own square that it depends on, along a side."""
        return self._reach(self.encoder_blocks)

    @property
    def decoder_reach(self) -> int:
        """Pixels' worth of latents beyond its own square that a pixel depends on, along a side."""
        return self._reach(self.decoder_blocks)

    @property
    def decoder_halo(self) -> int:
        """`decoder_reach` in whole latent pixels."""
        return -(-self.decoder_reach // self.factor)

    def _reach(self, blocks: tuple[int, ...]) -> int:
        # Two 3x3 convolutions a block, and one each to come in and go out.
        widths = [self.patch * 2**level for level in range(len(blocks))]
        inner = sum(2 * count * width for count, width in zip(blocks, widths, strict=True))
        return int(inner + widths[0] + widths[-1])

    @property
    def factor(self) -> int:
        """Pixels per latent pixel, along a side."""
        return int(self.patch * 2 ** (len(self.channels) - 1))


def _conv(channels: int, out_channels: int, padding: Padding) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, padding=1, padding_mode=padding)


class ResnetBlock(nn.Module):
    """`x + conv2(relu(conv1(relu(x))))`; starts as the identity, since `conv2` starts at zero."""

    def __init__(self, channels: int, padding: Padding = "zeros") -> None:
        super().__init__()
        self.conv1 = _conv(channels, channels, padding)
        self.conv2 = start_at_zero(_conv(channels, channels, padding))

    def forward(self, x: Tensor) -> Tensor:
        """`[N,C,h,w]` to the same shape."""
        return x + cast(Tensor, self.conv2(F.relu(self.conv1(F.relu(x)))))


class Downsample(nn.Module):
    """Folds 2x2 pixels into channels and projects: nothing is thrown away before it is weighed."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels * 4, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[N,C,h,w]` to `[N,out_channels,h/2,w/2]`."""
        return cast(Tensor, self.conv(F.pixel_unshuffle(x, 2)))


class Upsample(nn.Module):
    """Projects and unfolds channels into 2x2 pixels."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels * 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[N,C,h,w]` to `[N,out_channels,2h,2w]`."""
        return F.pixel_shuffle(self.conv(x), 2)


class _EncoderLevel(nn.Sequential):
    """The blocks of one resolution, then the change to the next coarser one if there is one."""

    def __init__(self, channels: int, blocks: int, coarser: int | None, padding: Padding) -> None:
        super().__init__()
        self.block = nn.Sequential(*(ResnetBlock(channels, padding) for _ in range(blocks)))
        self.downsample = nn.Identity() if coarser is None else Downsample(channels, coarser)


class _DecoderLevel(nn.Sequential):
    """The blocks of one resolution, then the change to the next finer one if there is one."""

    def __init__(self, channels: int, blocks: int, finer: int | None, padding: Padding) -> None:
        super().__init__()
        self.block = nn.Sequential(*(ResnetBlock(channels, padding) for _ in range(blocks)))
        self.upsample = nn.Identity() if finer is None else Upsample(channels, finer)


class Encoder(nn.Module):
    """Image in [-1,1] to scaled latents; see `Autoencoder.encode`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths = config.channels
        self.conv_in = _conv(config.in_channels * config.patch**2, widths[0], config.padding)
        levels = zip(widths, config.encoder_blocks, [*widths[1:], None], strict=True)
        self.down = nn.Sequential(*(_EncoderLevel(*level, config.padding) for level in levels))
        self.conv_out = _conv(widths[-1], config.z_channels, config.padding)

    def forward(self, image: Tensor) -> Tensor:
        """`[N,3,H,W]` to `[N,z_channels,H/8,W/8]`."""
        x = self.down(self.conv_in(F.pixel_unshuffle(image, self.patch)))
        return cast(Tensor, self.conv_out(F.relu(x)))


class Decoder(nn.Module):
    """Scaled latents to an image, about [-1,1]; see `Autoencoder.decode`."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch = config.patch
        widths = config.channels
        self.conv_in = _conv(config.z_channels, widths[-1], config.padding)
        levels = zip(widths, config.decoder_blocks, [None, *widths[:-1]], strict=True)
        self.up = nn.ModuleList(_DecoderLevel(*level, config.padding) for level in levels)
        self.conv_out = _conv(widths[0], config.in_channels * config.patch**2, config.padding)

    def forward(self, latent: Tensor) -> Tensor:
        """`[N,z_channels,h,w]` to `[N,3,8h,8w]`."""
        # Rare latents far outside the data would otherwise burn a hole into the picture.
        x = self.conv_in(torch.tanh(latent / 3) * 3)
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.relu(x)), self.patch)


class Autoencoder(nn.Module):
    """Encoder and decoder of one latent space.

    Source: decision D2; key names of Rombach et al. 2022 (LDM).
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, image: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Encode an image.

        Args:
            image: `[N,3,H,W]` in [0,1], sides multiples of `config.factor`.
            wanted: which latents are needed, bool `[H/8,W/8]`; others may be 0. None is all.

        Returns:
            Latents `[N,z_channels,H/8,W/8]` of about unit variance.
        """
        return self.encoder_map((image.shape[-2], image.shape[-1])).map_image(image, wanted)

    def encoder_map(self, size: tuple[int, int]) -> BlockMap:
        """How images of (height, width) px, multiples of `config.factor`, are encoded block by block."""
        factor = self.config.factor
        halo = -(-self.config.encoder_reach // factor) * factor
        return BlockMap(self._encode, size, BLOCK * factor, halo, Fraction(1, factor))

    def _encode(self, image: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(image * 2 - 1))

    def decode(self, latent: Tensor, wanted: Tensor | None = None, device: torch.device | str | None = None) -> Tensor:
        """Decode latents to an image, about [0,1] and not clamped.

        Args:
            latent: `[N,z_channels,h,w]`.
            wanted: of other latents the pixels may be 0, bool `[h,w]`; None is all.
            device: of the image, which is there from the beginning, block by block; None is the latents'.

        Returns:
            `[N,3,8h,8w]`.
        """
        c, edge = self.config, self.config.decoder_border
        seen = _repeat_edge(latent, edge)
        asked = wanted if wanted is None else _repeat_edge(wanted[None, None].float(), edge)[0, 0] > 0
        image = self.decoder_map((latent.shape[-2], latent.shape[-1]), device).map_image(seen, asked)
        rows, columns = (slice(edge * c.factor, (edge + side) * c.factor) for side in latent.shape[-2:])
        return image[..., rows, columns]

    def decoder_map(self, size: tuple[int, int], device: torch.device | str | None = None) -> BlockMap:
        """How latents are decoded block by block, with their outermost values repeated `config.decoder_border` times.

        Args:
            size: (height, width) of the latents, without what is repeated.
            device: see `decode`.
        """

        def decode_block(part: Tensor) -> Tensor:
            return self._decode(part) if device is None else self._decode(part).to(device)

        c, beyond = self.config, 2 * self.config.decoder_border
        # Blocks that much larger: a picture of one block stays one.
        seen = (size[0] + beyond, size[1] + beyond)
        return BlockMap(decode_block, seen, BLOCK + beyond, c.decoder_halo, Fraction(c.factor))

    def _decode(self, latent: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(latent)) / 2 + 0.5


def _repeat_edge(values: Tensor, width: int) -> Tensor:
    """`[N,C,h,w]` with its outermost values repeated so many times on each side."""
    return F.pad(values, (width,) * 4, mode="replicate") if width else values
