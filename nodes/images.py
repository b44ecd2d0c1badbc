"""Between the host's IMAGE, [N,H,W,C], and the core's images, [N,3,H,W]."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..adadiffsr_core.drawing.primitives import stack_pictures
from ..adadiffsr_core.errors import ShapeError

_LATENT_PX = 8


def image_to_planes(image: Tensor) -> Tensor:
    """The colours of an IMAGE as [N,3,H,W] float32; alpha is left out and grey repeated.

    Raises:
        ShapeError: it has no pixels, or neither 1, 3 nor 4 channels; or one of its colours is NaN or infinite.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not image.numel():
        raise ShapeError(f"an image has shape [N,height,width,3] and at least one pixel, got {list(image.shape)}")
    planes = image.float().movedim(-1, 1)[:, :3]
    if not bool(planes.isfinite().all()):
        raise ShapeError(
            "the image holds NaN or infinity, which is no colour; look at what made it, often a VAE in fp16"
        )
    return planes.expand(-1, 3, -1, -1) if planes.shape[1] == 1 else planes


def opacity(image: Tensor) -> Tensor | None:
    """Opacity of an IMAGE that has four channels, `[N,1,H,W]` in [0,1], and 1 where it is no number; else None."""
    if image.ndim != 4 or image.shape[-1] != 4:
        return None
    return image[..., 3:].float().movedim(-1, 1).nan_to_num(nan=1.0).clamp(0, 1)


def crop_as_encoded(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture or mask `[...,H,W]` cut as VAE Encode cuts it, to sides of whole latent pixels about its middle.

    One that is not a latent pixel or less larger than `size`, (height, width) in px, comes back as it is.
    """
    beyond = [have - wanted for have, wanted in zip(planes.shape[-2:], size, strict=True)]
    if any(side % _LATENT_PX for side in size) or not all(0 <= side < _LATENT_PX for side in beyond):
        return planes
    top, left = (side // 2 for side in beyond)
    return planes[..., top : top + size[0], left : left + size[1]]


def planes_to_image(planes: Tensor) -> Tensor:
    """[N,3,H,W] -> IMAGE, clamped to [0,1]."""
    return planes.movedim(1, -1).clamp(0, 1).contiguous()


def pictures_to_image(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Drawn pictures [H,W,3] -> IMAGE; a legend may have made one of them higher than the others."""
    return torch.from_numpy(stack_pictures(pictures)).float().div_(255)


def repeat_single(batch: Tensor, count: int, name: str) -> Tensor:
    """A batch of `count`, which a batch of one becomes by repetition.

    Args:
        batch: [N,...].
        count: wanted.
        name: of the input that the user connected.

    Raises:
        ShapeError: N is neither 1 nor `count`.
    """
    if len(batch) not in (1, count):
        raise ShapeError(f"{name} has {len(batch)} images where {count} are needed; connect {count} images, or one")
    return batch.expand(count, *batch.shape[1:])
