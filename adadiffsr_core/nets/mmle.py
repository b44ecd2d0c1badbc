"""MMLE: a regressor that guesses image quality metrics from latents, at a small part of their cost.

Source: section 3.2: convolutions and global average pooling. Its shape is ours, since the paper's is in a
supplement that was never published. There are no norms: how far two latents are apart is what it must see,
and a norm would divide by it.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Channels, Config, Most
from ..constants import constant
from ..errors import ConfigError
from ..text import quoted

# Of sinusoids of log(sigma), in radians per factor e: from one slow wave over all levels to fine detail.
_FREQUENCIES = tuple(2.0**power for power in range(-4, 4))
_EMBEDDING = 64
_VECTORS = 64  # values; twice as many as the widest vectors of a processor's hold in its loops
_Names = Annotated[tuple[str, ...], Most(64)]
_Numbers = tuple[Annotated[float, Most(1e9)], ...]
_LEAST_RANGE = 1e-9  # between what 0 and 1 stand for: it is divided by


@dataclass(frozen=True, kw_only=True)
class MmleConfig(Config):
    """Shape of an `Mmle`, and what its outputs mean.

    Attributes:
        latent_channels: of each of its two latents.
        widths: channels of its levels; each halves the resolution.
        hidden: width of the layer after the pooling.
        fr_metrics, nr_metrics: names of the full-reference and no-reference metrics, in the order of its outputs.
        fr_weights, nr_weights: of Eq. 2, one for each metric.
        worst, best: the metrics' values that 0 and 1 stand for, full-reference ones first (see `normalise_metrics`).
        difficulty: whether it also guesses how far a tile strays where steps are skipped (decision D71).
    """

    latent_channels: Channels = 4
    widths: Annotated[tuple[Channels, ...], Most(12)] = (64, 128, 256)
    hidden: Channels = 256
    fr_metrics: _Names = ("psnr", "lpips", "ahiq", "nlpd")
    nr_metrics: _Names = ("brisque", "musiq")
    fr_weights: _Numbers = (0.25, 0.25, 0.25, 0.25)
    nr_weights: _Numbers = (0.5, 0.5)
    worst: _Numbers = (0.0, 1.0, 0.0, 1.0, 100.0, 0.0)
    best: _Numbers = (50.0, 0.0, 1.0, 0.0, 0.0, 100.0)
    difficulty: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.widths or min(self.latent_channels, self.hidden, *self.widths) < 1:
            counts = (self.latent_channels, self.widths, self.hidden)
            raise ConfigError(f"latent_channels, widths and hidden must be at least 1, got {counts}")
        for kind, names, weights in (
            ("fr", self.fr_metrics, self.fr_weights),
            ("nr", self.nr_metrics, self.nr_weights),
        ):
            if not names or len(names) != len(weights):
                raise ConfigError(
                    f"{kind}_metrics {quoted(names, 80)} and {kind}_weights {quoted(weights, 80)} must go in pairs, "
                    "at least one"
                )
            if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
                raise ConfigError(
                    f"{kind}_weights must not be negative and have a sum above 0, got {quoted(weights, 80)}"
                )
        if len(set(self.metrics)) < len(self.metrics):
            raise ConfigError(f"each metric must be named once, got {quoted(self.metrics, 120)}")
        if not len(self.metrics) == len(self.worst) == len(self.best):
            raise ConfigError(
                f"worst {quoted(self.worst, 80)} and best {quoted(self.best, 80)} must have one value for each of "
                f"{quoted(self.metrics, 80)}"
            )
        if any(abs(worst - best) < _LEAST_RANGE for worst, best in zip(self.worst, self.best, strict=True)):
            raise ConfigError(
                f"worst and best of a metric must differ, got {quoted(self.worst, 80)} and {quoted(self.best, 80)}"
            )

    @property
    def blocks(self) -> int:
        """How many levels the network has."""
        return len(self.widths)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What the outputs are, in their order."""
        return self.fr_metrics + self.nr_metrics


def sigma_embedding(sigma: Tensor) -> Tensor:
    """Sinusoids of log(sigma), `[B]` to `[B,16]` float32; the same ones for diffusion and flow, any level from 0 up."""
    log_sigma = _wherever_it_is(torch.log, sigma.float().clamp(1e-4, 1e4)[:, None])
    angles = log_sigma * constant(_FREQUENCIES, log_sigma)
    return torch.cat([_wherever_it_is(torch.cos, angles), _wherever_it_is(torch.sin, angles)], dim=1)


class _Level(nn.Module):
    """Halves the resolution, adds the noise level, and looks around once."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1)
        self.sigma = nn.Linear(_EMBEDDING, out_channels)
        self.conv1 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.down(x) + self.sigma(embedding)[:, :, None, None])
        return h + cast(Tensor, self.conv2(F.silu(self.conv1(h))))


class Mmle(nn.Module):
    """The regressor.

    Source: section 3.2.
    """

    def __init__(self, config: MmleConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(2 * len(_FREQUENCIES), _EMBEDDING)
        inputs = [2 * config.latent_channels, *config.widths[:-1]]
        self.levels = nn.ModuleList(map(_Level, inputs, config.widths))
        self.filters = nn.Conv2d(2 * config.latent_channels, config.widths[0], 3, padding=1, bias=False)
        self.hidden = nn.Linear(config.widths[-1] + config.widths[0], config.hidden)
        self.out = nn.Linear(config.hidden, len(config.metrics))
        self.difficulty = nn.Linear(config.hidden, 1) if config.difficulty else None

    def forward(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """Guess the normalised metrics M_c of Eq. 2.

        Args:
            denoised: estimates of x0, `[B,C,h,w]` of any size, in the network's dtype.
            lq_latent: the paper's o, the same.
            sigma: noise levels `[B]` on the schedule that it was trained on.

        Returns:
            `[B,M]` float32 in [0,1], 1 best, in the order of `config.metrics`; with `config.difficulty` `[B,M+1]`, the
            last a tile's difficulty: log10 of the mean squared error, of levels in [0,1], to what all steps would give,
            by a course whose deviation is 1 (decision D81).
        """
        seen = self.look(denoised, lq_latent, sigma)
        metrics = _wherever_it_is(torch.sigmoid, _linear(self.out, seen))
        if self.difficulty is None:
            return metrics
        # Not a product of matrices: one column of it is computed otherwise for the last rows.
        difficulty = (seen * self.difficulty.weight.float()).sum(dim=1, keepdim=True) + self.difficulty.bias.float()
        return torch.cat([metrics, difficulty], dim=1)

    def look(self, denoised: Tensor, lq_latent: Tensor, sigma: Tensor) -> Tensor:
        """What all outputs are made of, `[B,hidden]` float32; arguments as of `forward`."""
        # How far the two are apart is small beside what they have in common, and hard to find by learning.
        x = torch.cat([denoised - lq_latent, denoised], dim=1)
        energies = self.filters(x).float().square().mean(dim=(2, 3))
        embedding = F.silu(self.embed(sigma_embedding(sigma).to(x.dtype)))
        for level in self.levels:
            x = level(x, embedding)
        # Gains are differences of about 1e-3, which half precision near 0.5 would round away.
        pooled = torch.cat([x.float().mean(dim=(2, 3)), _wherever_it_is(torch.log, energies + 1e-5) / 4 + 1], dim=1)
        return _wherever_it_is(F.silu, _linear(self.hidden, pooled))


def _wherever_it_is(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An elementwise function of `[B,n]`, to the same bits wherever in its batch an item is.

    A processor computes what does not fill its vectors by other instructions, whose last bit may differ: of few values
    those of the last items. The bits of a picture must not hang on which tiles share a call.
    """
    width = x.shape[1]
    return function(F.pad(x, (0, -width % _VECTORS), value=1.0))[:, :width]


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A layer in float32, whatever its weights are kept in, under autocast too."""
    device = x.device.type  # of which `meta` knows no autocast
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        return F.linear(x, layer.weight.float(), layer.bias.float())
