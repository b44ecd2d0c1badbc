"""The codebook: coefficients of every jump from one base step to a later one.

Source: section 3.3 ("a codebook to store the sampling-related parameters for skipping from one
timestep to another"). Every solver here is the same sum

    x_next = c_x * x + c_denoised * denoised + c_noise * noise

whose coefficients depend on the two noise levels alone, so that a long jump is no special case. To this two add
what the estimate has changed by since the one before (see `solver.py`): `dpmpp_2m`, and any jump that looks ahead.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..config import unknown
from ..errors import ConfigError
from .schedule import Schedule
from .transfer import send

Solver = Literal["ddpm", "ddim", "euler", "euler_ancestral", "dpmpp_2m"]

# Pairs that no jump uses (from sigma 0, or backwards) divide by this and come out as anything finite.
_TINY = 1e-12
_DEFAULT_ETA: dict[str, float] = {"ddpm": 1.0, "ddim": 0.0, "euler": 0.0, "euler_ancestral": 1.0, "dpmpp_2m": 0.0}


@dataclass(frozen=True)
class Codebook:
    """Coefficients by (start, target) base index, for N base steps.

    Attributes:
        sigmas: the base schedule `[N+1]`, falling to 0.
        c_x, c_denoised, c_noise: `[N+1,N+1]` float64; only entries with target > start mean anything.
        c_ahead: of jumps that look ahead, `[N+1,N+1]` float64: of the estimate's change per base step; 0 where steps
            draw noise.
        log_sigma: `[N+1]` float64, the time axis of `dpmpp_2m`.
        second_order: whether the estimate before takes part in every step.
        is_stochastic: whether jumps add noise.
        is_flow: whether the model is one of flow.
        looks_ahead: whether jumps end where the base steps that they leave out would lead (decision D88).
    """

    sigmas: Tensor
    c_x: Tensor
    c_denoised: Tensor
    c_noise: Tensor
    c_ahead: Tensor
    log_sigma: Tensor
    second_order: bool
    is_stochastic: bool
    is_flow: bool = False
    looks_ahead: bool = False

    @property
    def steps(self) -> int:
        """Number of base steps N."""
        return len(self.sigmas) - 1

    @property
    def needs_before(self) -> bool:
        """Whether a jump asks for the evaluation before."""
        return self.second_order or self.looks_ahead

    def look_ahead(self) -> "Codebook":
        """The same, of jumps that look ahead; where steps draw noise none do."""
        return replace(self, looks_ahead=not self.is_stochastic)

    def to(self, device: torch.device) -> "Codebook":
        """The same tables on another device (float32 where it has no float64)."""
        kind = torch.float32 if device.type == "mps" else torch.float64

        def there(table: Tensor) -> Tensor:
            return send(table.to(kind), device)

        return replace(
            self,
            sigmas=send(self.sigmas, device),
            c_x=there(self.c_x),
            c_denoised=there(self.c_denoised),
            c_noise=there(self.c_noise),
            c_ahead=there(self.c_ahead),
            log_sigma=there(self.log_sigma),
        )


def build_codebook(
    sigmas: Tensor, solver: Solver = "ddpm", eta: float | None = None, schedule: Schedule | None = None
) -> Codebook:
    """Compute the coefficients of every jump once, for one base schedule and solver.

    With `x = a * x0 + sigma * noise` (a = 1, or 1 - sigma for flow models), a jump keeps the noise that
    `x` and `denoised` imply up to `sigma_down` and tops it up to `sigma_next` with new noise. The
    solvers differ in `sigma_down` only: DDPM's posterior (Ho et al. 2020), DDIM with `eta` (Song et al.
    2020, Eq. 16) and the ancestral Euler step are one formula in these coordinates, and the
    deterministic ones are its `eta = 0`.

    Args:
        sigmas: falling noise levels `[N+1]`, the last 0.
        solver: `ddpm` and `euler_ancestral` add noise, `ddim` does with `eta` above 0.
        eta: share of new noise, 0 to 1; None takes the solver's own (1, or 0).
        schedule: of the model; None means no flow model.

    Raises:
        ConfigError: the solver is unknown, eta is out of range, or sigmas do not fall to 0.
    """
    if solver not in get_args(Solver):
        raise unknown("solver", solver, get_args(Solver))
    eta = _DEFAULT_ETA[solver] if eta is None else eta
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta must be between 0 and 1, got {eta}")
    if sigmas.ndim != 1 or len(sigmas) < 2 or float(sigmas[-1]) != 0 or not bool((sigmas.diff() < 0).all()):
        raise ConfigError("sigmas must be at least two falling noise levels that end with 0")
    if solver in ("euler", "dpmpp_2m"):
        eta = 0.0
    exact = sigmas.double().cpu()
    is_flow = schedule is not None and schedule.is_flow
    scale = 1 - exact if is_flow else torch.ones_like(exact)
    down = (
        _host_flow_down(exact, eta) if is_flow and solver == "euler_ancestral" else _posterior_down(exact, scale, eta)
    )
    kept = scale[None, :] * down
    c_x = kept / exact.clamp_min(_TINY)[:, None]
    c_denoised = scale[None, :] - scale[:, None] * c_x
    c_noise = (exact[None, :].square() - kept.square()).clamp_min(0).sqrt() if eta > 0 else torch.zeros_like(c_x)
    log_sigma = exact.clamp_min(_TINY).log()
    second_order = solver == "dpmpp_2m"
    c_ahead = torch.zeros_like(c_x) if eta > 0 else _ahead(c_x, c_denoised, log_sigma, second_order)
    return Codebook(sigmas.float(), c_x, c_denoised, c_noise, c_ahead, log_sigma, second_order, eta > 0, is_flow)


def _ahead(c_x: Tensor, c_denoised: Tensor, log_sigma: Tensor, second_order: bool) -> Tensor:
    """How far `x` goes, for every (start, target) pair, by what the estimates at the base steps between have more.

    Those are taken to change by 1 with each base step, and every base step is taken by the solver's own rule; so this
    is one sum along each row. `dpmpp_2m` adds to an estimate its change, `h / (2 h_last)` times.
    """
    steps = len(c_x) - 1
    h = -log_sigma.diff()
    own = torch.zeros(steps, dtype=c_x.dtype)
    if second_order:
        own[1:-1] = h[1:-1] / (2 * h[:-2])  # as in single steps, neither the first nor the last
    ahead, start = torch.zeros_like(c_x), torch.arange(steps + 1)
    for index in range(steps):
        changed = (index - start + own[index]).where(start <= index, ahead.new_zeros(()))
        ahead[:, index + 1] = c_x[index, index + 1] * ahead[:, index] + c_denoised[index, index + 1] * changed
    return ahead


def _posterior_down(sigmas: Tensor, scale: Tensor, eta: float) -> Tensor:
    """The noise that is kept, relative to x0, for every (start, target) pair.

    With `s = sigma / a`: `s_down^2 = s_next^2 - eta^2 * s_next^2 * (1 - s_next^2 / s^2)`. The inverse of s is
    used, since a flow model starts at a = 0.
    """
    s_next = (sigmas / scale.clamp_min(_TINY))[None, :]
    inverse_s = (scale / sigmas.clamp_min(_TINY))[:, None]
    return s_next * (1 - eta**2 * (1 - (s_next * inverse_s).square())).clamp_min(0).sqrt()


def _host_flow_down(sigmas: Tensor, eta: float) -> Tensor:
    """The same by the host's ancestral Euler step for flow models, which interpolates sigma itself."""
    sigma, sigma_next = sigmas[:, None].clamp_min(_TINY), sigmas[None, :]
    down = sigma_next * (1 + (sigma_next / sigma - 1) * eta)
    return down / (1 - down).clamp_min(_TINY)
