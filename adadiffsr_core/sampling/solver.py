"""One jump for a batch of tiles, each with its own start and target."""

from typing import NamedTuple

from torch import Tensor

from .codebook import Codebook


class Jump(NamedTuple):
    """Base indices `[B]` that each tile of a batch goes from and to: `start < target <= N`."""

    start: Tensor
    target: Tensor


class Before(NamedTuple):
    """The evaluation before: estimates of x0 `[B,C,h,w]`, and base indices `[B]`, -1 where none was."""

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
    `-log sigma`; for jumps that look ahead decision D88: the base steps between are taken, in one sum, with estimates
    that go on changing as they did since the evaluation before.

    Args:
        codebook: on the device of `x`.
        x: noisy latents `[B,C,h,w]`.
        denoised: the network's estimates of x0, `[B,C,h,w]`.
        jump: from where to where.
        noise: standard normal `[B,C,h,w]`; needed by stochastic solvers.
        before: the evaluation before, for codebooks that need it; without it the estimate is taken to stay.

    Returns:
        `x` at the targets, in the dtype of `x`. At target N this is `denoised` to the bit.
    """

    def coefficient(table: Tensor) -> Tensor:
        return table[jump.start, jump.target].to(x.dtype).reshape(-1, 1, 1, 1)

    change = None
    if codebook.looks_ahead and before is not None:
        change = _change_per_step(denoised, before, jump)
    elif codebook.second_order and before is not None:
        weight = _second_order_weight(codebook, jump, before.start).to(x.dtype).reshape(-1, 1, 1, 1)
        denoised = denoised + weight * (denoised - before.denoised)
    x_next = coefficient(codebook.c_x) * x + coefficient(codebook.c_denoised) * denoised
    if change is not None:
        x_next = x_next + coefficient(codebook.c_ahead) * change
    if codebook.is_stochastic and noise is not None:
        x_next = x_next + coefficient(codebook.c_noise) * noise
    return x_next


def _change_per_step(denoised: Tensor, before: Before, jump: Jump) -> Tensor:
    """By which the estimate has changed with each base step since the evaluation before; 0 where none was."""
    taken = (jump.start - before.start).where(before.start >= 0, 1).to(denoised.dtype).reshape(-1, 1, 1, 1)
    is_known = (before.start >= 0).reshape(-1, 1, 1, 1)
    return ((denoised - before.denoised) / taken).where(is_known, denoised.new_zeros(()))


def _second_order_weight(codebook: Codebook, jump: Jump, previous_start: Tensor) -> Tensor:
    """`h / (2 h_last)`, or 0 on a first jump and on the one to sigma 0, which are of first order."""
    t = -codebook.log_sigma
    h, h_last = t[jump.target] - t[jump.start], t[jump.start] - t[previous_start.clamp_min(0)]
    usable = (previous_start >= 0) & (jump.target < codebook.steps)
    return (h / (2 * h_last.clamp_min(1e-12))).where(usable, h.new_zeros(()))
