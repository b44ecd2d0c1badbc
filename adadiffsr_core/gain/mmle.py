"""The paper's estimator of quality: the MMLE regressor."""

import torch
from torch import Tensor

from ..nets.mmle import Mmle, MmleConfig
from .information import combine_metrics


class MmleEstimator:
    """A `GainEstimator` that asks the regressor.

    Source: section 3.2, Eq. 2.

    Args:
        mmle: on the device of the latents, in the dtype that it is to run in.
    """

    def __init__(self, mmle: Mmle) -> None:
        self.mmle = mmle

    @torch.inference_mode()
    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """See `GainEstimator.quality`."""
        dtype = self.mmle.embed.weight.dtype
        # The layout in which the network's convolutions are fastest.
        latents = [latent.to(dtype).contiguous(memory_format=torch.channels_last) for latent in (denoised, lq_latent)]
        values: Tensor = self.mmle(*latents, sigma)
        count = len(self.mmle.config.metrics)
        return torch.cat([metrics_to_quality(values[:, :count], self.mmle.config), values[:, count:]], dim=1)


def metrics_to_quality(values: Tensor, config: MmleConfig) -> Tensor:
    """R_fr and R_nr of Eq. 2, `[B,2]`, from normalised metrics `[B,M]` in the order of `config.metrics`."""
    full, none = values[:, : len(config.fr_metrics)], values[:, len(config.fr_metrics) :]
    return torch.stack([combine_metrics(full, config.fr_weights), combine_metrics(none, config.nr_weights)], dim=1)
