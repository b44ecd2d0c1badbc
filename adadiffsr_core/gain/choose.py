"""Which estimator of gain a run goes by."""

from ..errors import ConfigError
from ..nets.mmle import Mmle
from .information import GainEstimator
from .mmle import MmleEstimator
from .statistics import LatentStatistics


def choose_estimator(mmle: Mmle | None, channels: int) -> GainEstimator:
    """The regressor where there is one, else `LatentStatistics`.

    Args:
        mmle: on the device of the latents.
        channels: of the latents that will be rated.

    Raises:
        ConfigError: the regressor is for other latents.
    """
    if mmle is None:
        return LatentStatistics()
    if mmle.config.latent_channels != channels:
        raise ConfigError(
            f"this MMLE regressor is for latents of {mmle.config.latent_channels} channels; the model's have "
            f"{channels}; leave the input mmle empty to go by latent statistics"
        )
    return MmleEstimator(mmle)
