"""One jump for a batch of tiles, each with its own start and target."""

from typing import NamedTuple

from torch import Tensor

from .codebook import Codebook


class Jump(NamedTuple):
    """Base indices `[B]` that each tile of a batch goes from and to: `start < target <= N`."""

    start: Tensor
    target: Tensor


class Before(NamedTuple):
    """The evaluation before, for `dpmpp_2m`: estimates of x0 `[B,C,h,w]`, and base indices `[B]`, -1 where none was."""

    denoised: Tensor
    start: Tensor


def take_jump(
    codebook: Codebook,
    x: Tensor,
    denoised: Tensor,
    jump: Jump,
    noise: Tensor | None = None,
    before: Before | None = None,
) -> Tensor:
    """Move each tile from its base index to its own target.

    Source: section 3.3; for `dpmpp_2m` Lu et al. 2022, DPM-Solver++(2M), with the host's time axis
    `-log sigma`.

    Args:
        codebook: on the device of `x`.
        x: noisy latents `[B,C,h,w]`.
        denoised: the network's estimates of x0, `[B,C,h,w]`.
        jump: from where to where.
        noise: standard normal `[B,C,h,w]`; needed by stochastic solvers.
        before: the evaluation before; without it `dpmpp_2m` is of first order.

    Returns:
        `x` at the targets, in the dtype of `x`. At target N this is `denoised` to the bit.
    """

    def coefficient(table: Tensor) -> Tensor:
        return table[jump.start, jump.target].to(x.dtype).reshape(-1, 1, 1, 1)

    if codebook.second_order and before is not None:
        weight = _second_order_weight(codebook, jump, before.start).to(x.dtype).reshape(-1, 1, 1, 1)
        denoised = denoised + weight * (denoised - before.denoised)
    x_next = coefficient(codebook.c_x) * x + coefficient(codebook.c_denoised) * denoised
    if codebook.is_stochastic and noise is not None:
        x_next = x_next + coefficient(codebook.c_noise) * noise
    return x_next


def _second_order_weight(codebook: Codebook, jump: Jump, previous_start: Tensor) -> Tensor:
    """`h / (2 h_last)`, or 0 on a first jump and on the one to sigma 0, which are of first order."""
    t = -codebook.log_sigma
    h, h_last = t[jump.target] - t[jump.start], t[jump.start] - t[previous_start.clamp_min(0)]
    usable = (previous_start >= 0) & (jump.target < codebook.steps)
    return (h / (2 * h_last.clamp_min(1e-12))).where(usable, h.new_zeros(()))
