"""The regressor's teacher as an estimator: the metrics themselves, measured while sampling."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..errors import ConfigError
from ..metrics.base import Metric, normalise_metrics
from ..nets.mmle import MmleConfig
from .mmle import metrics_to_quality


class IqaEstimator:
    """A `GainEstimator` that decodes every estimate and measures it; many times slower than the regressor.

    Full-reference metrics compare with the low-quality latent, decoded.

    Source: Table 7, "DTSS (IQA)"; Eq. 2.

    Args:
        decode: latents `[B,C,h,w]` to images `[B,3,H,W]` in [0,1], such as `Model.decode`.
        metrics: from `create_metric`, in the order of `config.metrics`.
        config: weights, and what 0 and 1 stand for: a regressor's own where the two are to be compared.

    Raises:
        ConfigError: the metrics are not those of `config`.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], metrics: Sequence[Metric], config: MmleConfig) -> None:
        names = tuple(metric.info.name for metric in metrics)
        if names != config.metrics:
            raise ConfigError(f"the metrics must be {', '.join(config.metrics)}, in this order, got {', '.join(names)}")
        self.decode, self.metrics, self.config = decode, metrics, config

    @torch.no_grad()
    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """See `GainEstimator.quality`; sigma plays no part."""
        image, reference = self.decode(denoised), self.decode(lq_latent)
        values = torch.stack([metric(image, reference).to(denoised.device) for metric in self.metrics], dim=1)
        # What a metric cannot rate, such as a flat tile by NIQE, is rated worst at every step: no gain.
        normalised = normalise_metrics(values, self.config.worst, self.config.best).nan_to_num(0.0)
        return metrics_to_quality(normalised, self.config)
