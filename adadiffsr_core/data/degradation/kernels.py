"""Blur kernels of the degradation pipeline.

Source: Wang et al., Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data, 2021, sections
3.1 (Gaussian, generalised Gaussian, plateau) and 3.4 (sinc).
"""

from dataclasses import dataclass

import numpy as np

from ...config import Config
from ...errors import import_extra
from .ranges import Range, check_probabilities, check_range, check_shares, check_sizes

SHAPES = ("gaussian_iso", "gaussian_aniso", "generalised_iso", "generalised_aniso", "plateau_iso", "plateau_aniso")


@dataclass(frozen=True, kw_only=True)
class BlurConfig(Config):
    """One blur of Real-ESRGAN; the defaults are those of its first order.

    Attributes:
        prob: that the blur is done at all.
        size_range: odd kernel sizes in px, both ends included.
        shape_probs: of the six `SHAPES`, sum 1.
        sigma_range: in px, of both axes.
        generalised_range: exponent of the generalised Gaussian; below and above 1 are equally likely.
        plateau_range: exponent of the plateau kernel, drawn likewise.
        sinc_prob: that a sinc kernel is used instead of the six shapes.
    """

    prob: float = 1.0
    size_range: tuple[int, int] = (7, 21)
    shape_probs: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sigma_range: Range = (0.2, 3.0)
    generalised_range: Range = (0.5, 4.0)
    plateau_range: Range = (1.0, 2.0)
    sinc_prob: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probabilities({"blur prob": self.prob, "sinc_prob": self.sinc_prob})
        check_shares("shape_probs", self.shape_probs, len(SHAPES))
        check_sizes("size_range", self.size_range)
        check_range("sigma_range", self.sigma_range, 0.05)
        check_range("generalised_range", self.generalised_range, 0.1)
        check_range("plateau_range", self.plateau_range, 0.1)


def _mahalanobis(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    """Squared distance from the centre in units of the rotated axes, `[size,size]`."""
    x = np.arange(size) - (size - 1) / 2
    along = (np.cos(angle) * x[None] + np.sin(angle) * x[:, None]) / sigma[0]
    across = (np.cos(angle) * x[:, None] - np.sin(angle) * x[None]) / sigma[1]
    squared: np.ndarray = along**2 + across**2
    return squared


def _unit_sum(kernel: np.ndarray) -> np.ndarray:
    unit: np.ndarray = (kernel / kernel.sum()).astype(np.float32)
    return unit


def gaussian_kernel(size: int, sigma: tuple[float, float], angle: float = 0.0, power: float = 1.0) -> np.ndarray:
    """Generalised Gaussian `exp(-q^power / 2)`, float32 `[size,size]`, sum 1; `power` 1 is the Gaussian.

    Source: Real-ESRGAN section 3.1; q is the squared distance in units of `sigma` (px) along axes turned by `angle`
    (rad).
    """
    return _unit_sum(np.exp(-0.5 * _mahalanobis(size, sigma, angle) ** power))


def plateau_kernel(size: int, sigma: tuple[float, float], angle: float = 0.0, power: float = 1.0) -> np.ndarray:
    """Plateau-shaped kernel `1 / (1 + q^power)`, float32 `[size,size]`, sum 1; arguments as in `gaussian_kernel`.

    Source: Real-ESRGAN section 3.1.
    """
    return _unit_sum(1 / (1 + _mahalanobis(size, sigma, angle) ** power))


def sinc_kernel(size: int, cutoff: float) -> np.ndarray:
    """Circular ideal low-pass, float32 `[size,size]`, sum 1; it rings, as sharpened and recompressed pictures do.

    Source: Real-ESRGAN Eq. 6; `cutoff` in radians per px, pi is the highest frequency there is.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    j1 = import_extra("scipy.special", "sinc kernels need scipy: pip install 'adadiffsr[train]'").j1
    radius = np.sqrt(_mahalanobis(size, (1.0, 1.0), 0.0))
    middle = radius == 0
    radius[middle] = 1
    return _unit_sum(np.where(middle, cutoff**2 / (4 * np.pi), cutoff * j1(cutoff * radius) / (2 * np.pi * radius)))


def _draw_size(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0] // 2, bounds[1] // 2, endpoint=True)) * 2 + 1


def _draw_power(rng: np.random.Generator, bounds: Range) -> float:
    """Below and above 1 equally often, as Real-ESRGAN does; a range on one side of 1 is drawn evenly."""
    if not bounds[0] < 1 < bounds[1]:
        return float(rng.uniform(*bounds))
    return float(rng.uniform(bounds[0], 1) if rng.random() < 0.5 else rng.uniform(1, bounds[1]))


def draw_sinc(rng: np.random.Generator, size_range: tuple[int, int], lowest: float | None = None) -> np.ndarray:
    """Draw a sinc kernel, float32 `[k,k]`, with a cutoff from `lowest` to pi.

    Source: Real-ESRGAN's published code; without `lowest` it is pi/5, or pi/3 for kernels below 13 px, which are too
    small for pi/5.
    """
    size = _draw_size(rng, size_range)
    if lowest is None:
        lowest = np.pi / 3 if size < 13 else np.pi / 5
    return sinc_kernel(size, float(rng.uniform(lowest, np.pi)))


def draw_kernel(rng: np.random.Generator, config: BlurConfig) -> np.ndarray:
    """Draw one kernel of `config`, float32 `[k,k]`, k odd, sum 1.

    Source: Real-ESRGAN sections 3.1 and 4.1.
    """
    if rng.random() < config.sinc_prob:
        return draw_sinc(rng, config.size_range)
    size = _draw_size(rng, config.size_range)
    family, axes = SHAPES[rng.choice(len(SHAPES), p=config.shape_probs)].split("_")
    sigma = float(rng.uniform(*config.sigma_range))
    other, angle = (
        (sigma, 0.0) if axes == "iso" else (float(rng.uniform(*config.sigma_range)), rng.uniform(-np.pi, np.pi))
    )
    if family == "plateau":
        return plateau_kernel(size, (sigma, other), angle, _draw_power(rng, config.plateau_range))
    power = 1.0 if family == "gaussian" else _draw_power(rng, config.generalised_range)
    return gaussian_kernel(size, (sigma, other), angle, power)
