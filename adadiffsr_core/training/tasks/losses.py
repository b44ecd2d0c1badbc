"""Losses of the autoencoder."""

from torch import Tensor


def gradient_l1(image: Tensor, target: Tensor) -> Tensor:
    """L1 between horizontal and vertical differences of images `[N,C,H,W]`: asks for edges, not means."""
    error = image - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def moment_loss(latent: Tensor) -> Tensor:
    """How far each channel of latents `[N,C,h,w]` is from zero mean and unit variance over the batch.

    Where noise is added to latents, a channel could otherwise buy precision by being large.
    """
    mean, deviation = latent.mean(dim=(0, 2, 3)), latent.std(dim=(0, 2, 3))
    return (mean.square() + (deviation - 1).square()).mean()
