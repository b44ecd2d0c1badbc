"""Plain changes of size, with no network in them."""

import torch.nn.functional as F
from torch import Tensor


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, and without moire where a side gets smaller; of the same size it is the image itself, to the bit.

    Args:
        image: `[N,C,h,w]`.
        size: (height, width) of the result, px.

    Returns:
        `[N,C,*size]` float32 in [0,1].
    """
    if tuple(image.shape[-2:]) == size:
        return image.float().clamp(0, 1)
    is_smaller = size[0] < image.shape[-2] or size[1] < image.shape[-1]
    return F.interpolate(image.float(), size=size, mode="bicubic", antialias=is_smaller).clamp_(0, 1)


def reduce(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean over the area of each pixel of the result; whole ratios are exact, others a little softer.

    Args:
        image: `[N,C,h,w]` float32, no side smaller than the result's.
        size: (height, width) of the result, px.
    """
    return image if tuple(image.shape[-2:]) == size else F.interpolate(image, size=size, mode="area")
