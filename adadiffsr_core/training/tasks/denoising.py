"""The objective of diffusion training, shared by all that train on it: noise, the network's output, squared error."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ...models.processor import Processor
from ...nets.fusion import Residual
from ...nets.unet import UNet
from ...sampling.schedule import MAX_TIMESTEP, Schedule


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


def draw_noise(gt: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw timesteps and noise for a batch, on its device.

    Timesteps are stratified, one of each B-th of the schedule in any order, for a loss of less variance.

    Args:
        gt: `[B,C,h,w]`.
        generator: of the same device; None on `meta`.

    Returns:
        Timesteps `[B]` int64, 0 to 999, and standard normal noise `[B,C,h,w]` float32.
    """
    count, device = len(gt), gt.device
    place, order = torch.rand(2, count, generator=generator, device=device)
    spread = (torch.arange(count, device=device) + place) / count
    # The last of many may be rounded up to 1.
    timesteps = (spread[order.argsort()] * MAX_TIMESTEP).long().clamp_max(MAX_TIMESTEP - 1)
    return timesteps, torch.randn(gt.shape, generator=generator, device=device)


@dataclass(frozen=True)
class ScheduledUNet:
    """A UNet where it is trained, and the schedule that it is trained on.

    Attributes:
        unet: on the processor's device.
        schedule: of its noise levels, and what it predicts.
        processor: whose precision forward passes have.
    """

    unet: UNet
    schedule: Schedule
    processor: Processor

    def predict(self, x: Tensor, lq: Tensor, sigma: Tensor, residuals: Sequence[Residual] | None = None) -> Tensor:
        """The network's output `[B,C,h,w]` float32 for noisy latents `x` `[B,C,h,w]` at levels `sigma` `[B]`."""
        scaled = self.schedule.scale_input(x, sigma, lq)
        inputs = torch.cat([scaled, lq], dim=1).contiguous(memory_format=torch.channels_last)
        with self.processor.autocast():
            # The schedule's word for what the network is shown: for flow not the index drawn, but sigma * 1000.
            # Nothing but tensors where nothing is injected: a recorded network is called as it was recorded.
            injected = () if residuals is None else (residuals,)
            output = self.unet(inputs, self.schedule.sigma_to_timestep(sigma), *injected)
        return cast(Tensor, output.float())

    def estimate(self, x: Tensor, lq: Tensor, sigma: Tensor, residuals: Sequence[Residual] | None = None) -> Tensor:
        """What the output says of x0, `[B,C,h,w]`."""
        return self.schedule.output_to_denoised(self.predict(x, lq, sigma, residuals), x, sigma, lq)

    def record(self, latent: Tensor) -> None:
        """Let `predict` be replayed for batches like `latent` `[B,C,h,w]`, in training and without residuals."""
        inputs = torch.cat([latent, latent], dim=1).contiguous(memory_format=torch.channels_last)
        self.processor.record(self.unet, inputs, torch.zeros(len(latent), device=latent.device))

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """For batches unlike the recorded one, or calls between another's forward and backward pass.

        A recorded network is replayed in training mode alone; it has no layer that the mode changes otherwise.
        """
        was_training = self.unet.training
        self.unet.eval()
        try:
            yield
        finally:
            self.unet.train(was_training)

    def learn(self, pairs: NoisyPairs, residuals: Sequence[Residual] | None = None) -> tuple[Tensor, Tensor]:
        """Squared error of the network's output, `[B]`, and what the output says of x0, `[B,C,h,w]`."""
        sigma = self.schedule.timestep_to_sigma(pairs.timesteps)
        x = self.schedule.add_noise(pairs.gt, pairs.noise, sigma)
        output = self.predict(x, pairs.lq, sigma, residuals)
        error = output - self.schedule.training_target(pairs.gt, pairs.noise, sigma, pairs.lq)
        return error.square().mean(dim=(1, 2, 3)), self.schedule.output_to_denoised(output, x, sigma, pairs.lq)


def snr_weight(schedule: Schedule, sigma: Tensor, gamma: float | None) -> Tensor:
    """What to multiply the squared error at each level with, so that easy levels do not outweigh the others.

    An error of the output is an error of the estimate of x0 times a factor of the level. The weight makes of it the
    squared error of x0 times `min(SNR, gamma)`: for v `min(SNR, gamma) / (SNR + 1)`, for eps `min(SNR, gamma) / SNR`,
    and for flow, where the factor is sigma and SNR `(1 - sigma)^2 / sigma^2`, `min(SNR, gamma) * sigma^2`.

    Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", section 3.4.

    Args:
        schedule: of the network.
        sigma: noise levels `[B]`, above 0.
        gamma: above 0; the paper's is 5. None weighs all levels alike.

    Returns:
        `[B]` float32.
    """
    if gamma is None:
        return torch.ones_like(sigma, dtype=torch.float32)
    variance = sigma.float().square()
    snr = schedule.picture_scale(sigma).float().square() / variance
    factor = variance / (variance + 1) if schedule.prediction == "v" else variance
    return snr.clamp_max(gamma) * factor


def sample_plainly(
    predict: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, lq: Tensor, seed: int, steps: int = 12
) -> Tensor:
    """Restore latents `lq` `[B,C,h,w]` in a few Euler steps, for pictures of a run's progress.

    Args:
        predict: the network's output at x `[B,C,h,w]` and sigma `[B]`.
        schedule: that the network is trained on.
        lq: on the network's device.
        seed: of the noise, which is the same on every device.
        steps: evaluations.
    """
    noise = torch.randn(lq.shape, generator=torch.Generator().manual_seed(seed)).to(lq)
    sigmas = schedule.build_sigmas(steps).to(lq)
    x = schedule.add_noise(lq, noise, sigmas[:1].expand(len(lq)))
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        level = sigma.expand(len(lq))
        denoised = schedule.output_to_denoised(predict(x, level), x, level, lq)
        x = torch.lerp(denoised, x, sigma_next / sigma)
    return x
