"""Noise that depends on where it falls and on nothing else: not on batch size, order, or the tiles that run together.

Initial noise is the host's own field, drawn once over the canvas and cropped. Later noise comes from a counter-based
generator, a hash of (seed, image, base index, channel, y, x): any tile computes its own part of the field, and
overlapping tiles agree where they meet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from .tiles import TileGrid
from .transfer import send

FIELD_INDEX = -1  # the base index of the initial field, which no later step has

_WORD = 0xFFFFFFFF
# Philox's multipliers less 2**32, so that a product of words fits int64 (below 2**62 in size) instead of overflowing.
_MULTIPLIERS = (0xD2511F53 - 2**32, 0xCD9E8D57 - 2**32)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

_Words = tuple[Tensor, Tensor, Tensor, Tensor]


def field_noise(shape: Sequence[int], seed: int) -> Tensor:
    """The host's initial noise for a seed: standard normal, float32, on the CPU.

    Equal to ComfyUI's `comfy.sample.prepare_noise` for a float32 latent of this shape, to the bit; the host seeds
    torch's global generator, we one of our own.

    Args:
        shape: [N,C,H,W] of the whole canvas, before padding.
        seed: 0 to 2**64 - 1.

    Raises:
        ConfigError: the seed is out of range.
    """
    generator = torch.Generator().manual_seed(check_seed(seed))
    return torch.randn(tuple(shape), generator=generator)


def pad_noise(noise: Tensor, grid: TileGrid, seed: int) -> Tensor:
    """Extend a noise field to the padded canvas with fresh noise: reflected noise would be correlated.

    Source: decision D9.

    Args:
        noise: [N,C,*grid.canvas], such as `field_noise`, on any device.
        grid: where tiles are.
        seed: 0 to 2**64 - 1.

    Returns:
        [N,C,*grid.padded]; the noise itself where nothing is padded.

    Raises:
        ConfigError: the seed is out of range.
    """
    if grid.padded == grid.canvas:
        return noise
    corners = whole_canvases(len(noise), noise.device)
    corners[:, 1] += grid.above
    index = torch.full_like(corners[:, 0], FIELD_INDEX)
    padded = keyed_noise(seed, index, corners, (noise.shape[1], *grid.padded)).to(noise.dtype)
    padded[..., : grid.canvas[0], : grid.canvas[1]] = noise
    return padded


@dataclass(frozen=True)
class StepNoise:
    """Noise for the stochastic steps of a run, tile by tile.

    Source: decision D11.

    Attributes:
        seed: 0 to 2**64 - 1.
        grid: where tiles are.
        channels: C, latent channels.
    """

    seed: int
    grid: TileGrid
    channels: int

    def __call__(self, tile_ids: Sequence[int], base_index: Tensor, device: torch.device | None = None) -> Tensor:
        """Noise that tiles receive when they arrive at a base index.

        Args:
            tile_ids: B ids, counted over the batch of images.
            base_index: [B] integers; key by where a jump lands, so that tiles which got there by different jumps
                still see the same noise.
            device: of the result; that of `base_index` if not given.

        Returns:
            [B,C,h,w] float32 standard normal.
        """
        device = device or base_index.device
        corners = send(torch.tensor([self.grid.locate_in_whole(tile_id) for tile_id in tile_ids]), device)
        return keyed_noise(self.seed, send(base_index, device), corners, (self.channels, *self.grid.tile))


def whole_canvases(images: int, device: torch.device) -> Tensor:
    """`keyed_noise`'s corners `[N,3]` of N whole images."""
    image = torch.arange(images, device=device)
    return torch.stack([image, torch.zeros_like(image), torch.zeros_like(image)], dim=1)


def keyed_noise(seed: int, base_index: Tensor, corners: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Crops of an endless noise field: the value is a function of (seed, image, base index, channel, y, x) alone.

    Source: decision D11; Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
    and Box-Muller. All arithmetic is on integers or correctly rounded, so crops agree to the bit whatever the shape
    of the batch, and devices that follow IEEE 754 agree too.

    Args:
        seed: 0 to 2**64 - 1.
        base_index: [B] integers from -1, `FIELD_INDEX`.
        corners: [B,3] integers: the image, below 2**24, and the first canvas row and column of each crop, from 0.
        shape: of every crop: channels, at most 1,024, height and width, latent px.

    Returns:
        [B,*shape] float32 standard normal, on the device of `base_index`.

    Raises:
        ConfigError: the seed is out of range.
    """
    device, (channels, height, width) = base_index.device, shape
    image, top, left = corners.unbind(1)
    group = torch.arange((channels + 3) // 4, device=device).view(-1, 1, 1)  # a block of four words, four channels
    x = left.view(-1, 1, 1, 1) + torch.arange(width, device=device)
    y = top.view(-1, 1, 1, 1) + torch.arange(height, device=device).view(-1, 1)
    which = image.view(-1, 1, 1, 1) + (group << 24)
    words = _philox((x, y, base_index.long().view(-1, 1, 1, 1) & _WORD, which), check_seed(seed))
    first, second = _box_muller(torch.stack(words[:2]), torch.stack(words[2:]))
    return torch.stack((first[0], first[1], second[0], second[1]), dim=2).flatten(1, 2)[:, :channels]


def _philox(counter: _Words, seed: int) -> _Words:
    """Philox4x32-10: four 32-bit words, held in int64, to four random ones; counters broadcast."""
    a, b, c, d = counter
    key = [seed & _WORD, seed >> 32]
    for _ in range(_ROUNDS):
        product, other = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        # The high word of a * (multiplier + 2**32) is that of the product plus a; the shift rounds down.
        high, other_high = (product >> 32) + a, (other >> 32) + c
        a, b, c, d = other_high ^ b ^ key[0], other & _WORD, high ^ d ^ key[1], product & _WORD
        key = [(word + step) & _WORD for word, step in zip(key, _KEY_STEPS, strict=True)]
    return a, b, c, d


def _box_muller(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Two 32-bit words to two independent standard normals, at most 6.8 in size.

    The angle is a sign bit, a bit that mirrors about the diagonal, and 30 bits within 45 degrees of the x axis, where
    short Taylor series give sine and cosine to float32. The library's own functions may differ in the last bit
    between devices, and on one device between the body and the tail of a vector.
    """
    radius = _log((u.float() + 0.5) * 2.0**-32).mul_(-2).sqrt_() * (1 - 2 * (v >> 31)).float()
    angle = ((v & 0x3FFFFFFF) - 2**29).float().add_(0.5).mul_(math.pi / 2**31)
    square = angle * angle
    sine = _polynomial(square, [(-1) ** n / math.factorial(2 * n + 1) for n in range(5)]) * angle
    cosine = _polynomial(square, [(-1) ** n / math.factorial(2 * n) for n in range(6)])
    is_mirrored = (v & 2**30).bool()
    return radius * torch.where(is_mirrored, sine, cosine), radius * torch.where(is_mirrored, cosine, sine)


def _log(value: Tensor) -> Tensor:
    """Natural logarithm of positive, normal float32: exponent, and the artanh series of a mantissa about 1."""
    bits = value.view(torch.int32)
    exponent = (bits - 0x3F3504F3) >> 23  # of a mantissa in [sqrt(1/2), sqrt(2)): 0x3F3504F3 is sqrt(1/2)
    mantissa = (bits - (exponent << 23)).view(torch.float32)
    ratio = (mantissa - 1) / (mantissa + 1)
    series = _polynomial(ratio * ratio, [2 / (2 * n + 1) for n in range(6)]) * ratio
    return exponent.float().mul_(math.log(2)).add_(series)


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Horner's rule, lowest coefficient first; every operation rounds on its own, so never fused."""
    result = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result.mul_(x).add_(coefficient)
    return result


def check_seed(seed: int) -> int:
    """The seed, if it is one.

    Raises:
        ConfigError: it is not from 0 to 2**64 - 1.
    """
    if not 0 <= seed < 2**64:
        raise ConfigError(f"seed {seed} is out of range; use 0 to {2**64 - 1}")
    return seed
