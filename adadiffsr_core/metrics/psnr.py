"""Peak signal-to-noise ratio: the one metric that needs nothing but torch."""

import torch
from torch import Tensor

_STUDIO_LUMA = (65.481, 128.553, 24.966)  # ITU-R BT.601 on 8-bit levels: Y' from 16 to 235
_FLOOR = 1e-10  # identical images have 100 dB, so that means over images stay finite


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """PSNR in dB over all three channels of images [N,3,H,W] in [0,1] -> [N], at most 100."""
    mse = (image - reference).square().mean(dim=(1, 2, 3))
    return -10 * mse.clamp_min(_FLOOR).log10()


def psnr_y(image: Tensor, reference: Tensor) -> Tensor:
    """PSNR in dB of the luma of images [N,3,H,W] in [0,1] -> [N], at most 100.

    Source: the luma that super-resolution papers use since Dong et al. 2014 (MATLAB's rgb2ycbcr, 16 to 235).
    """
    return psnr(_luma(image), _luma(reference))


def _luma(image: Tensor) -> Tensor:
    """[N,3,H,W] -> [N,1,H,W]; the offset of 16 cancels in a difference."""
    return torch.einsum("nchw,c->nhw", image, image.new_tensor(_STUDIO_LUMA) / 255)[:, None]
