"""From quality to information gain (Eq. 1 and 2), and the estimators' protocol."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..constants import constant

# Gains are those of this share of the denoising, so that a threshold means the same for any number of steps.
GAIN_SPAN = 1 / 20


class GainEstimator(Protocol):
    """Estimates how good each tile is by now, from full-reference and no-reference points of view."""

    def quality(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """Rate tiles.

        Args:
            denoised: estimates of x0, `[B,C,h,w]`.
            lq_latent: the paper's o, `[B,C,h,w]`.
            sigma: noise levels `[B]`.

        Returns:
            `[B,2]` float32 in [0,1], 1 best: R_fr and R_nr of Eq. 2. From an estimator that can tell it `[B,3]`: the
            last is the tile's difficulty (see `sampling.bounded`).
        """
        ...


def combine_metrics(values: Tensor, weights: Sequence[float]) -> Tensor:
    """Eq. 2: `R = sum_c w_c M_c`, of normalised metrics `[B,M]` in [0,1], weights scaled to sum to 1; `[B]`."""
    values = values.float()
    scale = constant(weights, values)
    return (values * (scale / scale.sum())).sum(dim=1)


def information_gain(quality: Tensor, previous: Tensor, share: Tensor) -> Tensor:
    """Eq. 1: `I = tanh(R_i - R_{i-1})`, per twentieth of the denoising (decision D4).

    Args:
        quality, previous: `[B,2]` in [0,1], now and at the evaluation before.
        share: of the base steps that lie between the two, `[B]`, in (0,1].

    Returns:
        `[B,2]` in [-1,1].
    """
    difference = (quality - previous) * (GAIN_SPAN / share.clamp_min(1e-6))[:, None]
    # In float32 the body of a vector and its end, which other tiles decide, differ in the last bit.
    return torch.tanh(difference.double()).to(difference.dtype)
