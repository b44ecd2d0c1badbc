"""Transparent pictures: colours that nobody sees must not be seen in the result either.

Source: decision D42.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_TRUST_PX = 33  # how far about a pixel others of more opacity make its colour count for less; odd

_HAZE = 0.25  # what is less opaque than this share of what is near counts for still less: it is all but hidden


def fill_hidden(image: Tensor, alpha: Tensor) -> Tensor:
    """Colours for every pixel out of the visible ones.

    Where alpha is 0 the colour is made of visible neighbours, near ones first. A partly transparent pixel keeps its
    colour as far as it is as opaque as its surroundings, and takes theirs for the rest, as in premultiplied colours:
    a picture that is half transparent all over is left as it is. Opaque pixels never change.

    Source: pull-push interpolation (Gortler et al., 1996).

    Args:
        image: `[N,3,H,W]`.
        alpha: opacity `[N,1,H,W]` in [0,1].

    Returns:
        `[N,3,H,W]` float32; all zeros where an image has nothing visible.
    """
    alpha = alpha.float().clamp(0, 1)
    trust = (alpha / _most_opaque_near(alpha).clamp_min(1e-6)).clamp_(0, 1)
    trust = trust * (trust / _HAZE).clamp_(max=1)
    # Not `image * trust`: what a hidden pixel holds may be no number at all.
    return _pull_push(torch.where(trust > 0, image.float(), 0.0), trust)


def show_over_grey(image: Tensor, alpha: Tensor | None) -> Tensor:
    """What one sees of a picture, over mid-grey, on which neither white nor black is lost.

    Args:
        image: `[3,H,W]` in [0,1].
        alpha: `[1,H,W]` in [0,1], or None.
    """
    return image if alpha is None else torch.lerp(torch.full_like(image, 0.5), image, alpha.to(image))


def _most_opaque_near(alpha: Tensor) -> Tensor:
    """The greatest alpha in a square about each pixel, one axis after the other."""
    across = F.max_pool2d(alpha, (1, _TRUST_PX), stride=1, padding=(0, _TRUST_PX // 2))
    return F.max_pool2d(across, (_TRUST_PX, 1), stride=1, padding=(_TRUST_PX // 2, 0))


def _pull_push(colours: Tensor, trust: Tensor) -> Tensor:
    """Blend each pixel with what its coarser neighbourhood says, as far as it is not trusted itself."""
    height, width = colours.shape[-2:]
    if bool((trust >= 1).all()):
        return colours
    if height == width == 1:
        return torch.where(trust > 0, colours, 0.0)
    weighted = F.pad(colours * trust, (0, width % 2, 0, height % 2))
    weights = F.pad(trust, (0, width % 2, 0, height % 2))
    total = F.avg_pool2d(weights, 2) * 4
    mean = F.avg_pool2d(weighted, 2) * 4 / total.clamp_min(1e-12)
    coarse = _pull_push(torch.where(total > 0, mean, 0.0), total.clamp(max=1))
    around = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    # In two terms, and not as a lerp, so that a trusted colour comes through to the bit.
    return colours * trust + around * (1 - trust)
