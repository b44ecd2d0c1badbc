"""One jump for a batch of tiles, each with its own start and target."""

from torch import Tensor

from .codebook import Codebook


def take_jump(
    codebook: Codebook,
    x: Tensor,
    denoised: Tensor,
    start: Tensor,
    target: Tensor,
    noise: Tensor | None = None,
    previous: Tensor | None = None,
    previous_start: Tensor | None = None,
) -> Tensor:
    """Move each tile from its base index `start` to its own `target`.

    Source: section 3.3; for `dpmpp_2m` Lu et al. 2022, DPM-Solver++(2M), with the host's time axis
    `-log sigma`.

    Args:
        codebook: on the device of `x`.
        x: noisy latents `[B,C,h,w]`.
        denoised: the network's estimates of x0, `[B,C,h,w]`.
        start, target: base indices `[B]` with `start < target <= N`.
        noise: standard normal `[B,C,h,w]`; needed by stochastic solvers.
        previous: estimates of the jump before `[B,C,h,w]`, for `dpmpp_2m`.
        previous_start: base index that jump started from `[B]`, or -1 where there was none.

    Returns:
        `x` at the targets, in the dtype of `x`. At target N this is `denoised` to the bit.
    """

    def coefficient(table: Tensor) -> Tensor:
        return table[start, target].to(x.dtype).reshape(-1, 1, 1, 1)

    if codebook.second_order and previous is not None and previous_start is not None:
        weight = _second_order_weight(codebook, start, target, previous_start).to(x.dtype).reshape(-1, 1, 1, 1)
        denoised = denoised + weight * (denoised - previous)
    x_next = coefficient(codebook.c_x) * x + coefficient(codebook.c_denoised) * denoised
    if codebook.is_stochastic and noise is not None:
        x_next = x_next + coefficient(codebook.c_noise) * noise
    return x_next


def _second_order_weight(codebook: Codebook, start: Tensor, target: Tensor, previous_start: Tensor) -> Tensor:
    """`h / (2 h_last)`, or 0 on a first jump and on the one to sigma 0, which are of first order."""
    t = -codebook.log_sigma
    h, h_last = t[target] - t[start], t[start] - t[previous_start.clamp_min(0)]
    usable = (previous_start >= 0) & (target < codebook.steps)
    return (h / (2 * h_last.clamp_min(1e-12))).where(usable, h.new_zeros(()))
