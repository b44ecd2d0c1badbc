"""The objective of diffusion training, shared by all that train on it: noise, the network's output, squared error."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..nets.fusion import Residual
from ..nets.unet import UNet
from ..schedule import Schedule


class NoisyPairs(NamedTuple):
    """A batch of pairs and the noise to learn from.

    Attributes:
        gt, lq: latents `[B,C,h,w]`.
        noise: standard normal, the same.
        timesteps: `[B]`, 0 to 999.
    """

    gt: Tensor
    lq: Tensor
    noise: Tensor
    timesteps: Tensor


def predict(
    unet: UNet,
    schedule: Schedule,
    x: Tensor,
    lq: Tensor,
    sigma: Tensor,
    *,
    bfloat16: bool,
    residuals: Sequence[Residual] | None = None,
) -> Tensor:
    """The network's output `[B,C,h,w]` float32 for noisy latents `x` `[B,C,h,w]` at levels `sigma` `[B]`."""
    inputs = torch.cat([schedule.scale_input(x, sigma), lq], dim=1).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        # The schedule's word for what the network is shown: for flow not the index drawn, but sigma * 1000.
        output = unet(inputs, schedule.sigma_to_timestep(sigma), residuals)
    return cast(Tensor, output.float())


def denoising_loss(
    unet: UNet,
    schedule: Schedule,
    pairs: NoisyPairs,
    *,
    bfloat16: bool,
    residuals: Sequence[Residual] | None = None,
) -> Tensor:
    """Squared error of the network's output, `[B]`."""
    sigma = schedule.timestep_to_sigma(pairs.timesteps)
    x = schedule.add_noise(pairs.gt, pairs.noise, sigma)
    output = predict(unet, schedule, x, pairs.lq, sigma, bfloat16=bfloat16, residuals=residuals)
    error = output - schedule.training_target(pairs.gt, pairs.noise, sigma)
    return error.square().mean(dim=(1, 2, 3))
