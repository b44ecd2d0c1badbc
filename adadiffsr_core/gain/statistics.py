"""The estimator that needs no training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..constants import constant
from .information import combine_metrics


class LatentStatistics:
    """The estimator that needs no training: statistics of the latents themselves, on any checkpoint.

    Source: decision D5. FR: how near the estimate is to the low-quality latent, as PSNR and as NLPD
    (Laparra et al. 2016, one band: differences from the local mean over local contrast). NR: energy of the
    estimate's high frequencies, which grows as texture appears and falls when it is worn away.

    Attributes:
        fr_weights: of PSNR and NLPD.
        peak: spread of latents that PSNR is relative to; Stable Diffusion's reach about -4 to 4.
        detail_half: high-frequency energy that counts as quality 0.5.
    """

    def __init__(
        self, fr_weights: tuple[float, float] = (0.5, 0.5), peak: float = 8.0, detail_half: float = 0.05
    ) -> None:
        self.fr_weights, self.peak, self.detail_half = fr_weights, peak, detail_half

    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """See `GainEstimator.quality`; sigma plays no part."""
        denoised, lq_latent = denoised.float(), lq_latent.float()
        full = torch.stack([self._psnr(denoised, lq_latent), _nlpd(denoised, lq_latent)], dim=1)
        energy = high_frequencies(denoised).square().mean(dim=(1, 2, 3))
        return torch.stack([combine_metrics(full, self.fr_weights), energy / (energy + self.detail_half)], dim=1)

    def _psnr(self, latent: Tensor, reference: Tensor) -> Tensor:
        """PSNR between 0 dB and 50 dB, as [0,1]."""
        error = (latent - reference).square().mean(dim=(1, 2, 3)).clamp_min(1e-12)
        return (10 * torch.log10(self.peak**2 / error) / 50).clamp(0, 1)


def high_frequencies(latent: Tensor) -> Tensor:
    """What a 3x3 binomial blur takes away, `[B,C,h,w]`."""
    return latent - blur(latent)


def blur(latent: Tensor) -> Tensor:
    """3x3 binomial blur with replicated borders, of `[B,C,h,w]`."""
    kernel = constant((0.25, 0.5, 0.25), latent)
    channels = latent.shape[1]
    rows = kernel.reshape(1, 1, 3, 1).expand(channels, 1, 3, 1)
    columns = kernel.reshape(1, 1, 1, 3).expand(channels, 1, 1, 3)
    padded = F.pad(latent, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(F.conv2d(padded, rows, groups=channels), columns, groups=channels)


def _nlpd(latent: Tensor, reference: Tensor) -> Tensor:
    """1 minus the distance of the two's locally normalised differences, in [0,1]."""
    distance = (_normalised_detail(latent) - _normalised_detail(reference)).square().mean(dim=(1, 2, 3)).sqrt()
    return 1 / (1 + distance)


def _normalised_detail(latent: Tensor) -> Tensor:
    detail = high_frequencies(latent)
    return detail / (blur(detail.abs()) + 0.1)
