"""Colour matching: the tones of the photo the user gave, under the details the model drew."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..text import quoted
from .low_pass import low_pass, reach

_LEVELS = 4  # times the blur doubles (decision D80)
_PLAIN = 0.01 / 255  # change from pixel to pixel, in the mean about a place of the reference, below which it is plain
WAVELET_REACH = 2 * reach(_LEVELS) + 1  # px about a pixel that `match_wavelet` looks at: two blurs and a neighbour

ColourMatch = Literal["wavelet", "adain", "none"]


def match_colour(image: Tensor, reference: Tensor, method: ColourMatch) -> Tensor:
    """Give `image` the colours of `reference`.

    Args:
        image: [N, 3, H, W] in [0, 1].
        reference: the same shape, usually the low-quality photo enlarged.
        method: "wavelet" takes over slow changes of colour across the picture, "adain" each channel's mean and
            contrast, "none" nothing.

    Returns:
        [N, 3, H, W] in image's dtype; values may leave [0, 1] a little.

    Raises:
        ShapeError: the shapes differ or are not [N, 3, H, W].
        ConfigError: there is no such method.
    """
    if method == "none":
        return image
    if method == "wavelet":
        return match_wavelet(image, reference)
    if method == "adain":
        return match_adain(image, reference)
    raise ConfigError(f"there is no colour match {quoted(method, 80)}; use wavelet, adain or none")


def match_wavelet(image: Tensor, reference: Tensor) -> Tensor:
    """The high frequencies of `image` over the low frequencies of `reference`, of an a-trous wavelet decomposition.

    The low pass L is linear and the high frequencies are what it leaves, so
    `(image - L(image)) + L(reference) = image + L(reference - image)`: one decomposition, of the difference. Where a
    plane of the reference is one value all around there is nothing to restore, and it comes back as it is.

    Source: StableSR (Wang et al., 2024), colour correction: kernel (1, 2, 1) / 4 in each direction, dilated 2**level;
    there with five levels. Four, and plain places: decision D80.

    Args:
        image: [N, 3, H, W].
        reference: the same shape.

    Returns:
        [N, 3, H, W] in image's dtype, computed in float32 one channel at a time: the result and four planes of memory.

    Raises:
        ShapeError: the shapes differ or are not [N, 3, H, W].
    """

    def match_plane(plane: Tensor, wanted: Tensor) -> Tensor:
        weight = low_pass(_slope(wanted), _LEVELS).div_(_PLAIN).clamp_(max=1)
        has_plain = bool((weight < 1).any())  # most photographs have nothing plain, and all weights are 1
        weight = low_pass(weight, _LEVELS) if has_plain else weight
        matched = low_pass(wanted - plane, _LEVELS).add_(plane)
        return torch.lerp(wanted, matched, weight) if has_plain else matched

    return _match_planes(image, reference, match_plane)


def match_adain(image: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of `image` the mean and the standard deviation it has in `reference`.

    Source: adaptive instance normalisation (Huang and Belongie, 2017, Eq. 8), as StableSR's colour correction uses it.

    Args:
        image: [N, 3, H, W].
        reference: the same shape.

    Returns:
        [N, 3, H, W] in image's dtype, computed in float32.

    Raises:
        ShapeError: the shapes differ or are not [N, 3, H, W].
    """

    def match_plane(plane: Tensor, wanted: Tensor) -> Tensor:
        variance, mean = torch.var_mean(plane, correction=0)
        wanted_variance, wanted_mean = torch.var_mean(wanted, correction=0)
        scale = ((wanted_variance + 1e-5) / (variance + 1e-5)).sqrt()
        return (plane - mean).mul_(scale).add_(wanted_mean)

    return _match_planes(image, reference, match_plane)


def _match_planes(image: Tensor, reference: Tensor, match_plane: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Plane by plane, for memory's sake, and so that no result depends on the rest of the batch."""
    if image.ndim != 4 or image.shape[1] != 3 or image.shape != reference.shape:
        shapes = f"{list(image.shape)} and {list(reference.shape)}"
        raise ShapeError(f"colours can be matched between two images of one shape [N, 3, H, W], got {shapes}")
    precision = torch.promote_types(image.dtype, torch.float32)
    matched = torch.empty_like(image, memory_format=torch.contiguous_format)  # flatten must be a view
    for out, plane, wanted in zip(matched.flatten(0, 1), image.flatten(0, 1), reference.flatten(0, 1), strict=True):
        out.copy_(match_plane(plane.to(precision), wanted.to(plane.device, precision)))
    return matched


def _slope(plane: Tensor) -> Tensor:
    """By how much the next pixels to the right and below differ, together."""
    slope = torch.zeros_like(plane)
    slope[:, :-1] += plane.diff(dim=1).abs_()
    slope[:-1] += plane.diff(dim=0).abs_()
    return slope
