"""Camera noise for a batch, its kind and strength drawn for each picture; the same distributions as `image_noise`."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...photo.value import LUMA
from .noise import POISSON_QUANTILES, poisson_table
from .resampling import round_to_levels

NONE, NORMAL, POISSON = 0, 1, 2
# `image_noise` draws 16 bits, so it knows no larger deviation than this quantile's
LEAST_QUANTILE = 0.5 / 65536


class NoiseDraws(NamedTuple):
    """The noise of each picture, every field `[B]`.

    Attributes:
        kinds: NONE, NORMAL or POISSON.
        strengths: standard deviation in grey levels, or factor on the shot noise.
        greys: 1 where the channels share one noise, else 0.
    """

    kinds: Tensor
    strengths: Tensor
    greys: Tensor


def poisson_tables() -> Tensor:
    """Quantiles of shot noise for 1, 2, 4 ... 256 photons: float32 `[9 * 256 * POISSON_QUANTILES]`.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    return torch.from_numpy(np.concatenate([poisson_table(1 << power) for power in range(9)]))


def _count_levels(levels: Tensor, sides: Tensor) -> Tensor:
    """How many of the 256 grey levels occur in each picture, float `[B]`."""
    inside = torch.arange(levels.shape[-1], device=levels.device) < sides[:, None]
    place = torch.where(inside[:, None, :, None] & inside[:, None, None], levels, 256).long().flatten(1)
    used = torch.zeros((len(levels), 257), device=levels.device).scatter_(1, place, 1.0)
    return used[:, :256].sum(1)


def _shot_noise(images: Tensor, uniform: Tensor, sides: Tensor, tables: Tensor) -> Tensor:
    levels = round_to_levels(images)
    # white is as many photons as there are levels in use, rounded up to a power of two; the half guards the rounding
    power = torch.log2(_count_levels(levels, sides).sub_(0.5).clamp_(min=1)).ceil_()
    # the tables are short enough for an index to be exact in float32, which takes half the memory of int64
    index = (uniform * POISSON_QUANTILES).floor_()
    index.add_(levels, alpha=POISSON_QUANTILES).add_(power[:, None, None, None] * (256 * POISSON_QUANTILES))
    return tables.index_select(0, index.int().flatten()).view_as(index)


def add_noise_batch(images: Tensor, uniform: Tensor, draws: NoiseDraws, sides: Tensor, tables: Tensor) -> Tensor:
    """Add each picture's noise; the result is clipped to [0,1].

    Source: Real-ESRGAN section 3.1, as in `image_noise`.

    Args:
        images: float32 `[B,3,N,N]` in [0,1], picture i in the corner of `sides[i]` px.
        uniform: float32 `[B,3,N,N]` in [0,1), of which the noise is a function.
        draws: what to add.
        sides: `[B]` px.
        tables: `poisson_tables()` on the same device.
    """
    kinds, strengths, greys = (value[:, None, None, None] for value in draws)
    luma = (LUMA[0] * images[:, :1]).add_(images[:, 1:2], alpha=LUMA[1]).add_(images[:, 2:], alpha=LUMA[2])
    uniform = torch.where(greys > 0, uniform[:, :1], uniform)
    shot = _shot_noise(torch.where(greys > 0, luma, images), uniform, sides, tables)
    normal = torch.special.ndtri(uniform.clamp_(LEAST_QUANTILE, 1 - LEAST_QUANTILE))
    factors = torch.where(kinds == NORMAL, strengths / 255, strengths) * (kinds != NONE)
    return torch.where(kinds == POISSON, shot, normal).mul_(factors).add_(images).clamp_(0, 1)
