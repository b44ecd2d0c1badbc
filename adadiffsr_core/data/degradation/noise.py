"""Camera noise of the degradation pipeline: Gaussian or Poisson, grey or in colour.

Source: Real-ESRGAN section 3.1. Both kinds are drawn by looking random bits up in a table of quantiles, five times as
fast as numpy's own samplers; the memoised tables are pure functions of their argument.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ...config import Config
from ...errors import import_extra
from ...photo.value import LUMA
from .ranges import Range, check_probabilities, check_range

POISSON_QUANTILES = 1024


@dataclass(frozen=True, kw_only=True)
class NoiseConfig(Config):
    """The noise of one order; the defaults are those of Real-ESRGAN's first.

    Attributes:
        prob: that noise is added at all.
        gaussian_prob: that it is Gaussian; otherwise it is Poisson noise.
        gaussian_range: standard deviation in 8-bit grey levels.
        poisson_range: factor on the noise of a sensor that counts as many photons as there are grey levels.
        grey_prob: that the three channels share one noise.
    """

    prob: float = 1.0
    gaussian_prob: float = 0.5
    gaussian_range: Range = (1.0, 30.0)
    poisson_range: Range = (0.05, 3.0)
    grey_prob: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        probabilities = {"noise prob": self.prob, "gaussian_prob": self.gaussian_prob, "grey_prob": self.grey_prob}
        check_probabilities(probabilities)
        check_range("gaussian_range", self.gaussian_range, 0)
        check_range("poisson_range", self.poisson_range, 0)


def _import_scipy() -> Any:
    return import_extra("scipy.special", "noise needs scipy: pip install 'adadiffsr[train]'")


def _midpoints(count: int) -> np.ndarray:
    return (np.arange(count) + 0.5) / count


@lru_cache(maxsize=1)
def _normal_table() -> np.ndarray:
    """65,536 quantiles of the standard normal, to 4.3 standard deviations."""
    table: np.ndarray = _import_scipy().ndtri(_midpoints(65536)).astype(np.float32)
    return table


@lru_cache(maxsize=9)
def poisson_table(photons: int) -> np.ndarray:
    """Quantiles of `count / photons - brightness` for the 256 brightnesses, float32 `[256 * POISSON_QUANTILES]`."""
    mean = np.arange(256) / 255 * photons
    counts = np.arange(int(photons + 6 * np.sqrt(photons) + 8))
    cumulative = _import_scipy().pdtr(counts, mean[:, None])
    quantile = np.stack([np.searchsorted(row, _midpoints(POISSON_QUANTILES)) for row in cumulative])
    table: np.ndarray = ((quantile - mean[:, None]) / photons).astype(np.float32).ravel()
    return table


def _draw_bits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, 65536, shape, dtype=np.uint16)


def _grey(image: np.ndarray) -> np.ndarray:
    luma: np.ndarray = image @ np.array(LUMA, dtype=np.float32)[:, None]
    return luma


def gaussian_noise(rng: np.random.Generator, image: np.ndarray, sigma: float, grey: bool) -> np.ndarray:
    """Noise of standard deviation `sigma` (in grey levels of 255): float32 `[H,W,1]` if `grey`, else `[H,W,3]`.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    shape = (*image.shape[:2], 1 if grey else image.shape[2])
    noise: np.ndarray = (_normal_table() * np.float32(sigma / 255))[_draw_bits(rng, shape)]
    return noise


def poisson_noise(rng: np.random.Generator, image: np.ndarray, factor: float, grey: bool) -> np.ndarray:
    """`factor` times the shot noise of float32 `[H,W,3]` in [0,1]: float32 `[H,W,1]` if `grey`, else `[H,W,3]`.

    Source: Real-ESRGAN's published code: white is as many photons as there are grey levels in use, rounded up to a
    power of two.
    """
    levels = ((_grey(image) if grey else image) * 255 + 0.5).astype(np.uint8)
    used = int(np.count_nonzero(np.bincount(levels.ravel(), minlength=256)))
    table = poisson_table(1 << (used - 1).bit_length()) * np.float32(factor)
    index = levels.astype(np.int32) * POISSON_QUANTILES + _draw_bits(rng, levels.shape) // (65536 // POISSON_QUANTILES)
    noise: np.ndarray = table[index]
    return noise


def add_noise(rng: np.random.Generator, image: np.ndarray, config: NoiseConfig) -> np.ndarray:
    """Add the noise that `config` asks for to float32 `[H,W,3]` in [0,1]; the result is clipped to [0,1]."""
    if rng.random() >= config.prob:
        return image
    grey = bool(rng.random() < config.grey_prob)
    if rng.random() < config.gaussian_prob:
        noise = gaussian_noise(rng, image, float(rng.uniform(*config.gaussian_range)), grey)
    else:
        noise = poisson_noise(rng, image, float(rng.uniform(*config.poisson_range)), grey)
    noisy: np.ndarray = np.clip(image + noise, 0, 1)
    return noisy
