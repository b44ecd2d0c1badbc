"""Noise levels: timestep <-> sigma <-> alpha_bar, and what a network's output means.

The only file that knows both conventions: the training schedule's (1,000 timesteps, large = noisy)
and the sampler's (`sigma`, with `x = x0 + sigma * noise`, or for flow models
`x = (1 - sigma) * x0 + sigma * noise`).
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from ..config import Config, unknown
from ..errors import ConfigError, ShapeError

MAX_TIMESTEP = 1000
Prediction = Literal["eps", "v", "flow"]
Target = Literal["picture", "residual"]
Spacing = Literal["uniform", "karras"]


def _per_item(values: Tensor, like: Tensor) -> Tensor:
    """`[N]` to `[N,1,1,1]`, to multiply `like` with."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


@cache
def _scaled_linear_log_sigmas() -> np.ndarray:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, MAX_TIMESTEP, dtype=np.float64) ** 2
    alpha_bar = np.cumprod(1 - betas)
    log_sigmas: np.ndarray = 0.5 * np.log((1 - alpha_bar) / alpha_bar)
    return log_sigmas


@cache
def _log_sigmas_on(device: torch.device) -> Tensor:
    """The same `[1000]`, float32, on a device: a GPU would wait for a copy at every call."""
    # Whoever asks first may be in inference mode, whose tensors no later training could use.
    with torch.inference_mode(False):
        return torch.as_tensor(_scaled_linear_log_sigmas(), dtype=torch.float32, device=device)


@dataclass(frozen=True)
class Schedule(Config):
    """The noise levels a model was trained on, and its prediction type.

    Source: Stable Diffusion's scaled-linear betas (0.00085 to 0.012 over 1,000 timesteps), and for
    `flow` the straight path of Lipman et al. 2023 with `sigma = timestep / 1000`.

    Attributes:
        prediction: what the network predicts: the noise, the velocity
            `v = (noise - sigma * x0) / sqrt(sigma^2 + 1)` (Salimans and Ho 2022), or the flow
            `noise - x0`.
        target: what it denoises: the picture, or what the picture has more than the low-quality one (decision D36).
            Samplers see pictures either way: the difference is taken where the network is shown `x`.
    """

    prediction: Prediction = "v"
    target: Target = "picture"

    def to_dict(self) -> dict[str, str]:
        """What weights files say of it; the target only where it is not the picture, as files always were."""
        return {"prediction": self.prediction} | ({} if self.target == "picture" else {"target": self.target})

    @property
    def is_flow(self) -> bool:
        """Whether `x` is a blend of picture and noise rather than their sum."""
        return self.prediction == "flow"

    @property
    def sigma_max(self) -> float:
        """The noisiest level."""
        return 1.0 if self.is_flow else float(np.exp(_scaled_linear_log_sigmas()[-1]))

    def timestep_to_sigma(self, timestep: Tensor) -> Tensor:
        """Sigma of timesteps `[N]` in [0, 999]; fractional ones are interpolated in log sigma."""
        if self.is_flow:
            return (timestep + 1) / MAX_TIMESTEP
        logs = _log_sigmas_on(timestep.device)
        timestep = timestep.float().clamp(0, MAX_TIMESTEP - 1)
        low = timestep.floor().long()
        high = timestep.ceil().long()
        return torch.lerp(logs[low], logs[high], timestep - low).exp()

    def sigma_to_timestep(self, sigma: Tensor) -> Tensor:
        """The trained timestep nearest in log sigma, `[N]`, as the host finds it."""
        if self.is_flow:
            return sigma * MAX_TIMESTEP
        logs = _log_sigmas_on(sigma.device)
        return (sigma.float().log()[:, None] - logs).abs().argmin(dim=1).float()

    def picture_scale(self, sigma: Tensor) -> Tensor:
        """The factor of x0 inside `x`: 1, or `1 - sigma` for flow."""
        return 1 - sigma if self.is_flow else torch.ones_like(sigma)

    def add_noise(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """`x` at levels `sigma` `[N]`, from `x0` and standard normal `noise` `[N,C,h,w]`."""
        return x0 * _per_item(self.picture_scale(sigma), x0) + noise * _per_item(sigma, x0)

    def start(self, latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """`x` to begin with, `[N,C,h,w]`, from a latent and standard normal noise, as the host does.

        At the noisiest level the host gives noise the variance of noise and picture together.
        """
        if not self.is_flow and sigma > self.sigma_max * (1 - 1e-5):
            return cast(Tensor, latent + noise * (1 + sigma**2) ** 0.5)
        return self.add_noise(latent, noise, noise.new_tensor([sigma]))

    def scale_input(self, x: Tensor, sigma: Tensor, lq_latent: Tensor | None = None) -> Tensor:
        """What the network is shown: `x / sqrt(sigma^2 + 1)`, of about unit variance; `x` itself for flow.

        Args:
            x: noisy latents `[N,C,h,w]`.
            sigma: `[N]`.
            lq_latent: like `x`; it plays a part where the residual is the target.
        """
        shown = self._to_target(x, sigma, lq_latent)
        return shown if self.is_flow else shown * _per_item((sigma.square() + 1).rsqrt(), x)

    def output_to_denoised(self, output: Tensor, x: Tensor, sigma: Tensor, lq_latent: Tensor | None = None) -> Tensor:
        """The estimate of x0 that a network's `output` `[N,C,h,w]` at `x`, `sigma` `[N]` stands for.

        Args:
            output: of the network.
            x, sigma, lq_latent: as in `scale_input`.
        """
        level, seen = _per_item(sigma, x), self._to_target(x, sigma, lq_latent)
        if self.prediction == "v":
            variance = level.square() + 1
            estimate = seen / variance - output * level * variance.rsqrt()
        else:
            estimate = seen - output * level
        return estimate if self.target == "picture" else estimate + self._known(lq_latent)

    def _to_target(self, x: Tensor, sigma: Tensor, lq_latent: Tensor | None) -> Tensor:
        """`x` as if what the network denoises had been noised, with the same noise."""
        if self.target == "picture":
            return x
        return x - self._known(lq_latent) * _per_item(self.picture_scale(sigma), x)

    @staticmethod
    def _known(lq_latent: Tensor | None) -> Tensor:
        if lq_latent is None:
            raise ShapeError("this model denoises what the picture has more than lq_latent, and was given none")
        return lq_latent

    def training_target(self, x0: Tensor, noise: Tensor, sigma: Tensor, lq_latent: Tensor | None = None) -> Tensor:
        """What the network's output ought to be; arguments as in `add_noise` and `scale_input`."""
        if self.target == "residual":
            x0 = x0 - self._known(lq_latent)
        if self.prediction == "eps":
            return noise
        if self.prediction == "flow":
            return noise - x0
        level = _per_item(sigma, x0)
        return (noise - level * x0) * (level.square() + 1).rsqrt()

    def build_sigmas(self, steps: int, spacing: Spacing = "uniform", denoise: float = 1.0) -> Tensor:
        """The base schedule: `steps + 1` falling noise levels, the last 0, float32.

        Args:
            steps: base steps, at least 1.
            spacing: `uniform` in timesteps (every fifth of 1,000 at 200 steps, as in section 4.1 of the
                paper), or `karras` (Karras et al. 2022, rho 7).
            denoise: in (0,1]; below 1, only the last part of a schedule of `steps / denoise` steps, as in
                the host.

        Raises:
            ConfigError: a value is out of its range.
        """
        if not 1 <= steps <= MAX_TIMESTEP:
            raise ConfigError(f"steps must be between 1 and {MAX_TIMESTEP}, got {steps}")
        if not 0 < denoise <= 1:
            raise ConfigError(f"denoise must be above 0 and at most 1, got {denoise}")
        if spacing not in get_args(Spacing):
            raise unknown("spacing", spacing, get_args(Spacing))
        total = int(steps / denoise)
        if total > MAX_TIMESTEP:
            most = int(MAX_TIMESTEP * denoise)
            raise ConfigError(
                f"{steps} steps at denoise {denoise} are the end of {total} steps; there are only {MAX_TIMESTEP}, "
                f"so use at most {most} step{'' if most == 1 else 's'}"
            )
        if spacing == "karras":
            ends = self.timestep_to_sigma(torch.tensor([float(MAX_TIMESTEP - 1), 0.0], dtype=torch.float64)) ** (1 / 7)
            sigmas = torch.lerp(ends[:1], ends[1:], torch.linspace(0, 1, total, dtype=ends.dtype)) ** 7
        else:
            stride = MAX_TIMESTEP / total
            timesteps = torch.tensor([MAX_TIMESTEP - 1 - int(i * stride) for i in range(total)], dtype=torch.float32)
            sigmas = self.timestep_to_sigma(timesteps)
        return torch.cat([sigmas[-steps:].float(), torch.zeros(1)])
