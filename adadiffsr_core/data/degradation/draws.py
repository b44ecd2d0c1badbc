"""What is drawn for a batch of degradations: on the CPU, for each picture by itself, and packed into one tensor.

The distributions are those that `degradation`, `kernels` and `image_noise` draw from one picture at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor
from typing_extensions import Self

from .kernels import SHAPES, BlurConfig
from .kernels_batch import GAUSSIAN, PLATEAU, SINC, KernelDraws
from .noise import NoiseConfig
from .noise_batch import NONE, NORMAL, POISSON, NoiseDraws
from .ranges import Range
from .single import DegradationConfig, OrderConfig

Column = np.ndarray  # one number for each picture of the batch
UNUSED = 1.0  # of a field whose kind was not drawn; its formula is evaluated nevertheless, and must be finite


class StageDraws(NamedTuple):
    """One blur, resize, noise and JPEG for each picture.

    Attributes:
        kernels: of the blur.
        sides: after the resize, px, float `[B]`.
        methods: of the resize, `[B]`.
        noise: after the resize.
        qualities: of the JPEG, `[B]`; 0 is none.
    """

    kernels: KernelDraws
    sides: Tensor
    methods: Tensor
    noise: NoiseDraws
    qualities: Tensor

    @classmethod
    def unpack(cls, rows: Tensor) -> Self:
        """From `[13,B]` packed in the order of the fields."""
        values = rows.unbind(0)
        return cls(KernelDraws(*values[:7]), values[7], values[8], NoiseDraws(*values[9:12]), values[12])


def largest_sides(configs: Sequence[DegradationConfig], size_px: int, smallest_scale: float) -> list[int]:
    """Largest side that a picture of `size_px` can have after each stage of any of the pipelines, px.

    A pipeline with fewer orders than another waits at the start.
    """
    stages = max(len(config.orders) for config in configs)
    out = int(size_px / smallest_scale)
    each = []
    for config in configs:
        sides = [size_px] * (stages - len(config.orders) + 1)
        for order in config.orders[:-1]:
            sides.append(int(sides[-1] * _largest_factor(order)))
        each.append([*sides[1:], max(1, int(out * _largest_factor(config.orders[-1]))), out])
    return [max(sides) for sides in zip(*each, strict=True)]


def _largest_factor(order: OrderConfig) -> float:
    return order.resize_range[1] if order.resize_probs[0] > 0 else 1.0


def draw_stages(
    rng: np.random.Generator, config: DegradationConfig, size_px: int, out_sides: Column, stages: int
) -> np.ndarray:
    """Draw a whole pipeline for each picture, float32 `[stages + 1,13,B]`: waiting, its orders, and the finish.

    The finish is a stage without noise whose blur, the final sinc, comes after its resize.

    Args:
        rng: what to draw from.
        config: what may be drawn; its `scale` is not used.
        size_px: side of the pictures.
        out_sides: `[B]` px, of the low-quality pictures.
        stages: orders of the longest pipeline of the batch.
    """
    count = len(out_sides)
    sides: Column = np.full(count, size_px)
    rows = [_stage_of_nothing(sides)] * (stages - len(config.orders))
    for order in config.orders[:-1]:
        rows.append(_draw_order(rng, order, sides))
        sides = rows[-1][7]
    last = _draw_order(rng, config.orders[-1], out_sides)
    sinc_first = rng.random(count) < config.sinc_first_prob
    finish = _stage_of_nothing(out_sides)
    finish[:7] = _draw_final_sinc(rng, config, count)
    finish[8] = _choose(rng, config.orders[-1].filter_probs, count)
    finish[12] = np.where(sinc_first, last[12], 0)
    last[12] = np.where(sinc_first, 0, last[12])
    return np.stack([np.stack(np.broadcast_arrays(*stage)) for stage in [*rows, last, finish]]).astype(np.float32)


def _stage_of_nothing(sides: Column) -> list[Column]:
    nothing = np.zeros(len(sides))
    return [*_kernel_of_nothing(len(sides)), sides, nothing, nothing + NONE, nothing, nothing, nothing]


def _kernel_of_nothing(count: int) -> list[Column]:
    one = np.full(count, UNUSED)
    return [one, one * GAUSSIAN, one, one, one, one, one]


def _draw_order(rng: np.random.Generator, order: OrderConfig, sides: Column) -> list[Column]:
    count = len(sides)
    kernels = _draw_blur(rng, order.blur, count)
    direction = _choose(rng, order.resize_probs, count)
    low, high = order.resize_range
    factors = rng.uniform(np.choose(direction, [1.0, low, 1.0]), np.choose(direction, [high, 1.0, 1.0]))
    out_sides = np.maximum(1, np.floor(sides * factors))
    methods = _choose(rng, order.filter_probs, count)
    noise = _draw_noise(rng, order.noise, count)
    qualities = np.round(rng.uniform(*order.jpeg_range, count))
    return [*kernels, out_sides, methods, *noise, np.where(rng.random(count) < order.jpeg_prob, qualities, 0)]


def _draw_blur(rng: np.random.Generator, blur: BlurConfig, count: int) -> list[Column]:
    sizes = _draw_sizes(rng, blur.size_range, count)
    shapes = _choose(rng, blur.shape_probs, count)
    is_sinc = rng.random(count) < blur.sinc_prob
    plateau = np.array([shape.startswith("plateau") for shape in SHAPES])[shapes]
    generalised = np.array([shape.startswith("generalised") for shape in SHAPES])[shapes]
    isotropic = np.array([shape.endswith("_iso") for shape in SHAPES])[shapes]
    sigmas, others = rng.uniform(*blur.sigma_range, (2, count))
    angles = rng.uniform(-np.pi, np.pi, count)
    powers = np.where(plateau, _draw_powers(rng, blur.plateau_range, count), 1.0)
    powers = np.where(generalised, _draw_powers(rng, blur.generalised_range, count), powers)
    # a small kernel has no room for the lowest cutoff
    cutoffs = rng.uniform(np.where(sizes < 13, np.pi / 3, np.pi / 5), np.pi)
    families = np.where(is_sinc, SINC, np.where(plateau, PLATEAU, GAUSSIAN))
    sizes = np.where(rng.random(count) < blur.prob, sizes, 1)
    return [sizes, families, sigmas, np.where(isotropic, sigmas, others), angles, powers, cutoffs]


def _draw_final_sinc(rng: np.random.Generator, config: DegradationConfig, count: int) -> list[Column]:
    kernels = _kernel_of_nothing(count)
    sizes = _draw_sizes(rng, config.sinc_size_range, count)
    kernels[0] = np.where(rng.random(count) < config.sinc_prob, sizes, 1)
    kernels[1] = np.full(count, SINC)
    kernels[-1] = rng.uniform(np.pi / 3, np.pi, count)
    return kernels


def _draw_noise(rng: np.random.Generator, noise: NoiseConfig, count: int) -> list[Column]:
    is_normal = rng.random(count) < noise.gaussian_prob
    strengths = np.where(is_normal, rng.uniform(*noise.gaussian_range, count), rng.uniform(*noise.poisson_range, count))
    kinds = np.where(rng.random(count) < noise.prob, np.where(is_normal, NORMAL, POISSON), NONE)
    return [kinds, strengths, rng.random(count) < noise.grey_prob]


def _draw_sizes(rng: np.random.Generator, bounds: tuple[int, int], count: int) -> Column:
    return rng.integers(bounds[0] // 2, bounds[1] // 2, count, endpoint=True) * 2 + 1


def _draw_powers(rng: np.random.Generator, bounds: Range, count: int) -> Column:
    """Below and above 1 equally often, unless the range is on one side of it."""
    if not bounds[0] < 1 < bounds[1]:
        return rng.uniform(*bounds, count)
    above = rng.random(count) < 0.5
    return rng.uniform(np.where(above, 1, bounds[0]), np.where(above, bounds[1], 1))


def _choose(rng: np.random.Generator, shares: Sequence[float], count: int) -> Column:
    return rng.choice(len(shares), count, p=shares)
