"""JPEG as a function of tensors: what libjpeg loses between writing and reading, for a batch and on any device.

Source: ITU-T T.81 annex K (tables); libjpeg and libjpeg-turbo 3 for what the standard leaves open: quality scaling,
how edges are continued, chroma halved and brought back ("fancy upsampling"), and where values are rounded. The entropy
coder loses nothing and is left out.
"""

import math

import torch
from torch import Tensor

from .resampling import repeated_index, round_to_levels, take

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
MCU_PX = 16  # with halved chroma a unit of coding is two luma blocks wide


def level_tensor(images: Tensor) -> Tensor:
    """Float in [0,1], anything beyond clipped, to grey levels 0 to 255, still float."""
    return round_to_levels(images).clamp_(0, 255)


def _split(weights: Tensor) -> Tensor:
    """A float64 matrix as the sum of a coarse and a fine one, float32 `[2,...]`.

    A device that takes products in TF32 keeps 11 bits of each factor. Levels and coefficients are whole numbers of no
    more than that; with the weights in two parts their products are exact as well.
    """
    coarse = weights.bfloat16().double()
    return torch.stack([coarse, weights - coarse]).float().contiguous()


def _multiply(blocks: Tensor, weights: Tensor, offset: Tensor) -> Tensor:
    rows = blocks.flatten(0, 1)
    return torch.addmm(offset, rows, weights[0]).addmm_(rows, weights[1]).view_as(blocks)


class JpegTables:
    """Constants of the transform on one device.

    Args:
        base: quantisation at quality 50, float32 `[2,64]`, luma and chroma.
        forward: the 8x8 DCT as one matrix in two parts, float32 `[2,64,64]`; `blocks @ forward.sum(0)` are 8 times the
            coefficients, which libjpeg rounds to whole numbers before it quantises.
        inverse: likewise, back from coefficients.
    """

    def __init__(self, base: Tensor, forward: Tensor, inverse: Tensor) -> None:
        self.base, self.forward, self.inverse = base, forward, inverse
        # levels are centred before they are transformed, and back to be rounded
        self.centre = torch.zeros(64, device=base.device)
        self.centre[:1] = -8 * 8 * 128
        self.middle = torch.full((64,), 128.5, device=base.device)

    @classmethod
    def on(cls, device: torch.device) -> "JpegTables":
        """Build them."""
        base = torch.tensor([LUMA_TABLE, CHROMA_TABLE], dtype=torch.float32).flatten(1)
        rows = torch.arange(8, dtype=torch.float64)[:, None]
        dct = torch.cos((2 * rows.T + 1) * rows * math.pi / 16) / 2
        dct[0] /= math.sqrt(2)
        both = torch.kron(dct, dct)
        return cls(base.to(device), _split(8 * both.T).to(device), _split(both).to(device))

    def scaled(self, qualities: Tensor) -> Tensor:
        """Quantisation steps at `qualities` `[B]`, 1 to 100: float32 `[2,B,64]`, whole numbers from 1 to 255."""
        percent = torch.where(qualities < 50, torch.div(5000, qualities, rounding_mode="floor"), 200 - 2 * qualities)
        return (self.base[:, None] * percent[:, None]).add_(50).div_(100).floor_().clamp_(1, 255)


def _to_blocks(plane: Tensor) -> Tensor:
    """`[B,C,h,w]` to `[B,blocks,64]`."""
    batch, channels, height, width = plane.shape
    return plane.view(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4).reshape(batch, -1, 64)


def _from_blocks(blocks: Tensor, like: Tensor) -> Tensor:
    channels, height, width = like.shape[1:]
    tiled = blocks.view(len(blocks), channels, height // 8, width // 8, 8, 8)
    return tiled.transpose(3, 4).reshape(like.shape)


def _quantise(plane: Tensor, steps: Tensor, tables: JpegTables) -> Tensor:
    """Transform `[B,C,h,w]` in levels, round to `steps` `[B,64]`, and transform back."""
    coefficients = _multiply(_to_blocks(plane), tables.forward, tables.centre).round_()
    # torch rounds ties to even, libjpeg away from zero, and flat blocks have many
    coefficients.mul_(((1 + 1e-6) / (8 * steps))[:, None]).round_().mul_(steps[:, None])
    levels = _multiply(coefficients, tables.inverse, tables.middle).floor_().clamp_(0, 255)
    return _from_blocks(levels, plane)


def _to_ycc(levels: Tensor) -> tuple[Tensor, Tensor]:
    red, green, blue = levels.unbind(1)
    luma = (0.299 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114).add_(0.5).floor_()
    # libjpeg rounds a tie of the chroma down
    chroma = torch.stack(
        [
            (0.5 * blue).sub_(red, alpha=0.168735892).sub_(green, alpha=0.331264108),
            (0.5 * red).sub_(green, alpha=0.418687589).sub_(blue, alpha=0.081312411),
        ],
        1,
    )
    return luma[:, None], chroma.add_(128.5 - 2**-12).floor_()


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    blueness, redness = chroma.sub(128).unbind(1)
    green = (-0.344136286 * blueness).sub_(redness, alpha=0.714136286).add_(0.5).floor_()
    red = (1.402 * redness).add_(0.5).floor_()
    blue = (1.772 * blueness).add_(0.5).floor_()
    return torch.stack([red, green, blue], 1).add_(luma).clamp_(0, 255)


def _halve(chroma: Tensor) -> Tensor:
    """Mean of 2x2, ties down and up in turn, as libjpeg does to have no bias."""
    total = chroma[..., ::2] + chroma[..., 1::2]
    total = total[..., ::2, :] + total[..., 1::2, :]
    bias = torch.arange(total.shape[-1], device=chroma.device) % 2 + 1
    return total.add_(bias).div_(4).floor_()


def _double(chroma: Tensor) -> Tensor:
    """Triangle filter of 3/4 and 1/4 on each axis, `[B,C,h,w]` to `[B,C,2h,2w]`; the border repeats."""
    above = torch.cat([chroma[:, :, :1], chroma[:, :, :-1]], 2)
    below = torch.cat([chroma[:, :, 1:], chroma[:, :, -1:]], 2)
    tall = torch.stack([above.add_(chroma, alpha=3), below.add_(chroma, alpha=3)], 3).flatten(2, 3)
    left = torch.cat([tall[..., :1], tall[..., :-1]], 3)
    right = torch.cat([tall[..., 1:], tall[..., -1:]], 3)
    pair = torch.stack([left.add_(tall, alpha=3).add_(8), right.add_(tall, alpha=3).add_(7)], 4)
    return pair.flatten(3, 4).div_(16).floor_()


def recode_levels(levels: Tensor, qualities: Tensor, sides: Tensor, tables: JpegTables) -> Tensor:
    """Write and read as JPEG, 4:2:0.

    Args:
        levels: float32 `[B,3,N,N]` RGB, whole numbers from 0 to 255, picture i in the corner of `sides[i]` px.
        qualities: `[B]`, whole numbers from 1 to 100.
        sides: `[B]` px; below 5 px libjpeg brings the chroma back by repeating it, which is not done here.
        tables: on the same device.

    Returns:
        float32 `[B,3,N,N]`, whole numbers from 0 to 255; beyond a picture's own side it means nothing.
    """
    length = levels.shape[-1]
    coded = -(-length // MCU_PX) * MCU_PX
    repeated = repeated_index(sides, coded)
    luma, chroma = _to_ycc(take(levels, repeated, repeated))
    halved = repeated_index(torch.div(sides + 1, 2, rounding_mode="floor"), coded // 2)
    steps = tables.scaled(qualities)
    luma = _quantise(luma, steps[0], tables)
    # below a picture libjpeg repeats the last row of halved chroma, right of it the last column before it is halved
    chroma = _quantise(take(_halve(chroma), halved, None), steps[1], tables)
    return _to_rgb(luma, _double(take(chroma, halved, halved)))[..., :length, :length]


def compress_batch(images: Tensor, qualities: Tensor, sides: Tensor, tables: JpegTables) -> Tensor:
    """Write float32 `[B,3,N,N]` RGB in [0,1] as JPEG and read it back; quality 0 leaves a picture as it is.

    Arguments and what is returned otherwise as in `recode_levels`, but on a scale of [0,1].
    """
    levels = recode_levels(level_tensor(images), qualities.clamp(min=1), sides, tables)
    return torch.where(qualities[:, None, None, None] > 0, levels.div_(255), images)
