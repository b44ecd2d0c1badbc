"""The paper's estimator of quality: the MMLE regressor."""

import torch
from torch import Tensor

from .gain import combine_metrics
from .nets.mmle import Mmle


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
        config = self.mmle.config
        dtype = self.mmle.embed.weight.dtype
        # The layout in which the network's convolutions are fastest.
        latents = [latent.to(dtype).contiguous(memory_format=torch.channels_last) for latent in (denoised, lq_latent)]
        full, none = self.mmle(*latents, sigma).split([len(config.fr_metrics), len(config.nr_metrics)], dim=1)
        return torch.stack([combine_metrics(full, config.fr_weights), combine_metrics(none, config.nr_weights)], dim=1)
