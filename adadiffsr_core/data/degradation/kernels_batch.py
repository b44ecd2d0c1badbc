"""Blur kernels for a batch, one for each picture, and filtering with them; the formulas are those of `kernels`."""

from typing import NamedTuple

import torch
from torch import Tensor

from .resampling import reflected_index, take

GAUSSIAN, PLATEAU, SINC = 0, 1, 2


class KernelDraws(NamedTuple):
    """What makes each picture's kernel, every field `[...]` alike.

    Attributes:
        sizes: odd, px; 1 is no blur.
        families: GAUSSIAN, PLATEAU or SINC.
        sigmas, other_sigmas: px, along the two axes.
        angles: of the axes, rad.
        powers: exponent of Gaussian and plateau.
        cutoffs: of the sinc, rad per px.
    """

    sizes: Tensor
    families: Tensor
    sigmas: Tensor
    other_sigmas: Tensor
    angles: Tensor
    powers: Tensor
    cutoffs: Tensor


def build_kernels(draws: KernelDraws, size_px: int) -> Tensor:
    """Kernels of unit sum, float32 `[...,size_px,size_px]`, smaller ones in the middle.

    Source: Real-ESRGAN sections 3.1 and 3.4, as in `kernels`.
    """
    sizes, families, sigmas, others, angles, powers, cutoffs = (value[..., None, None] for value in draws)
    x = torch.arange(size_px, device=draws.sizes.device, dtype=torch.float32) - size_px // 2
    y = x[:, None]
    cos, sin = torch.cos(angles), torch.sin(angles)
    squared = (((cos * x + sin * y) / sigmas) ** 2 + ((cos * y - sin * x) / others) ** 2) ** powers
    kernels = torch.where(families == PLATEAU, 1 / (1 + squared), torch.exp(-0.5 * squared))
    kernels = torch.where(families == SINC, _sinc(x**2 + y**2, cutoffs), kernels)
    kernels = kernels * (torch.maximum(x.abs(), y.abs()) <= torch.div(sizes, 2, rounding_mode="floor"))
    return kernels / kernels.sum((-2, -1), keepdim=True)


def _sinc(squared: Tensor, cutoffs: Tensor) -> Tensor:
    radius = squared.clamp(min=1).sqrt()
    ringing = cutoffs * torch.special.bessel_j1(cutoffs * radius) / (2 * torch.pi * radius)
    return torch.where(squared == 0, cutoffs**2 / (4 * torch.pi), ringing)


def transform_length(least: int) -> int:
    """The next even length that an FFT is fast at: without prime factors above 7."""
    for length in range(least + least % 2, 2 * least + 2, 2):
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
    return least


def blur_batch(images: Tensor, kernels: Tensor, sides: Tensor) -> Tensor:
    """Filter each picture with its own kernel, its own borders reflected.

    By FFT: at 21 px a direct sum takes 441 products for every value, which on no device is hidden behind its memory.

    Args:
        images: float32 `[B,C,N,N]`, picture i in the corner of `sides[i]` px.
        kernels: `[B,k,k]`, k odd.
        sides: `[B]` px.

    Returns:
        `[B,C,N,N]`.
    """
    length, size = images.shape[-1], kernels.shape[-1]
    index = reflected_index(sides, length + size - 1, size // 2)
    shape = (transform_length(length + size - 1),) * 2
    # the conjugate makes it a correlation, whose first `length` rows and columns do not wrap around
    spectrum = torch.fft.rfft2(take(images, index, index), s=shape)
    spectrum *= torch.fft.rfft2(kernels, s=shape).conj()[:, None]
    filtered: Tensor = torch.fft.irfft2(spectrum, s=shape)[..., :length, :length]
    return filtered
