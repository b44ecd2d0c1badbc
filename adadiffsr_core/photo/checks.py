"""What the public door refuses: tensors that are no pictures, or that do not belong together."""

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError


def check_mask(image: Tensor, mask: Tensor | None) -> None:
    """Check that a compute mask, where there is one, belongs to these images.

    Raises:
        ShapeError: it does not.
    """
    if mask is not None and (mask.ndim != 4 or mask.shape[1] != 1):
        raise ShapeError(f"a compute mask must be [N or 1,1,height,width], got {tuple(mask.shape)}")
    if mask is not None and len(mask) not in (1, len(image)):
        raise ShapeError(f"a compute mask must be one for all images or one for each, got {len(mask)} for {len(image)}")


def check_image(image: Tensor, size: tuple[int, int]) -> None:
    """Check that there are images `[N,3,H,W]`, or `[N,4,H,W]` with opacity, and that the result has a size.

    Raises:
        ShapeError: there are none, or they hold NaN.
        ConfigError: a result would have no pixels.
    """
    if image.ndim != 4 or image.shape[1] not in (3, 4) or 0 in image.shape:
        raise ShapeError(f"an image must be [N,3 or 4,height,width] with at least one pixel, got {tuple(image.shape)}")
    if min(size) < 1:
        raise ConfigError(f"the result must be at least 1x1 px, got {size[1]}x{size[0]}")
    if not bool(torch.isfinite(image).all()):
        raise ShapeError("the image holds NaN or infinity; repair it first")
