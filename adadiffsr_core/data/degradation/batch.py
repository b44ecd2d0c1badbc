"""The Real-ESRGAN degradation pipeline for a batch on any device: good photographs to plausible bad ones.

Source: as `degradation`, which does the same for one picture on the CPU. Every picture has its own draws. Pictures of
different sizes lie in the corners of buffers that the largest fits in, so no shape depends on what was drawn; all that
comes from the CPU is one small tensor, and nothing is waited for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, ShapeError
from ...models.processor import Processor
from .draws import StageDraws, draw_stages, largest_sides
from .jpeg import JpegTables, compress_batch, level_tensor
from .kernels_batch import blur_batch, build_kernels
from .noise_batch import add_noise_batch, poisson_tables
from .ranges import check_probabilities
from .resampling import CUBIC, resize_batch, resize_matrix
from .single import DegradationConfig

_NUMBERS, _NOISE = 0x6E756D, 0x6E6F69  # streams of their own beside whatever else is drawn from a seed


@dataclass(frozen=True)
class Draws:
    """Everything that chance decides about a batch; with it the degradation is a function of the pictures.

    Attributes:
        stages: one for each order and one for the finish.
        noise: uniform in [0,1), float32 `[B,3,side,side]`, one for each order.
    """

    stages: tuple[StageDraws, ...]
    noise: tuple[Tensor, ...]


class BatchDegradation:
    """Draws degradations and applies them to `[B,3,S,S]`.

    Args:
        strong, mild: two pipelines to choose from; their own `scale` is not used.
        mild_prob: of the milder one.
        scales: smallest and largest; how many times smaller a low-quality picture is, drawn evenly from between them.
            `(4, 4)` is what super-resolution by 4 trains on.
        processor: where the pictures are.

    Raises:
        ConfigError: `mild_prob` is not in [0,1], or `scales` is no range from 1.
        MissingExtraError: scipy is not installed.
    """

    def __init__(
        self,
        strong: DegradationConfig,
        mild: DegradationConfig,
        mild_prob: float,
        scales: tuple[float, float] = (4.0, 4.0),
        processor: Processor | None = None,
    ) -> None:
        check_probabilities({"mild_prob": mild_prob})
        if not 1 <= scales[0] <= scales[1] < float("inf"):
            raise ConfigError(f"scales must be a range (from, to) of at least 1, got {scales}")
        self.pipelines, self.mild_prob, self.scales = (strong, mild), mild_prob, scales
        self.processor = processor or Processor()
        self.jpeg = JpegTables.on(self.processor.device)
        self.poisson = self.processor.place(poisson_tables())
        self.orders = max(len(pipeline.orders) for pipeline in self.pipelines)
        self.kernel_px = max(_largest_kernel(pipeline) for pipeline in self.pipelines)

    def sides(self, size_px: int) -> list[int]:
        """Sides of the buffers after each stage, px, for pictures of `size_px`."""
        return largest_sides(self.pipelines, size_px, self.scales[0])

    def draw_numbers(self, count: int, size_px: int, seed: int, step: int) -> np.ndarray:
        """What chance decides but the noise itself, float32 `[stages,13,count]`; see `StageDraws.unpack`."""
        rng = np.random.Generator(np.random.SFC64([_NUMBERS, seed, step]))
        out_sides = np.maximum(1, np.floor(size_px / rng.uniform(*self.scales, count)))
        strong, mild = (draw_stages(rng, config, size_px, out_sides, self.orders) for config in self.pipelines)
        return np.where(rng.random(count) < self.mild_prob, mild, strong)

    def draw(self, count: int, size_px: int, seed: int, step: int) -> Draws:
        """Draw for a batch of `count` pictures of `size_px`; the same seed (at least 0) and step give the same.

        Raises:
            ShapeError: the pictures are smaller than the largest scale.
        """
        if size_px < self.scales[1]:
            raise ShapeError(f"pictures of {size_px} px cannot be made {self.scales[1]:g} times smaller")
        numbers = self.processor.place(torch.from_numpy(self.draw_numbers(count, size_px, seed, step)))
        generator = self.processor.generator(seed ^ _NOISE, step)
        noise = tuple(
            torch.rand((count, 3, side, side), generator=generator, device=self.processor.device)
            for side in self.sides(size_px)[:-1]
        )
        return Draws(tuple(StageDraws.unpack(stage) for stage in numbers.unbind(0)), noise)

    @torch.no_grad()
    def __call__(self, gt: Tensor, draws: Draws) -> Tensor:
        """Degrade, and bring back to the size of `gt` by bicubic interpolation.

        Source: Real-ESRGAN section 3, Fig. 2; `PairDataset` for the return.

        Args:
            gt: float32 `[B,3,S,S]` RGB in [0,1].
            draws: of `draw(B, S, ...)`.

        Returns:
            `[B,3,S,S]` on the 256 levels of [0,1], of pictures that were on 256 levels before they were enlarged.

        Raises:
            ShapeError: `gt` is not `[B,3,S,S]`, or the draws are for others.
        """
        size_px = gt.shape[-1]
        buffers = self.sides(size_px)
        if gt.shape != (len(draws.stages[0].sides), 3, size_px, size_px) or draws.noise[0].shape[-1] != buffers[0]:
            raise ShapeError(f"pictures to degrade must be [B,3,S,S] like their draws, got {list(gt.shape)}")
        full = torch.full_like(draws.stages[0].sides, size_px)
        images, sides = gt.float(), full
        for stage, noise, buffer in zip(draws.stages[:-1], draws.noise, buffers[:-1], strict=True):
            images = self.blur(images, stage, sides)
            images = resize_stage(images, stage, sides, buffer)
            images = self.spoil(images, stage, noise)
            sides = stage.sides
        lq = self.finish(images, draws.stages[-1], sides, buffers[-1])
        return enlarge(lq, draws.stages[-1].sides, full, size_px)

    def blur(self, images: Tensor, stage: StageDraws, sides: Tensor) -> Tensor:
        """Filter pictures of `sides` with the stage's kernels."""
        return blur_batch(images, build_kernels(stage.kernels, self.kernel_px), sides)

    def spoil(self, images: Tensor, stage: StageDraws, noise: Tensor) -> Tensor:
        """Noise and JPEG of pictures that the stage has resized."""
        # bicubic and sinc overshoot, and neither a sensor nor a file does
        images = add_noise_batch(images.clamp(0, 1), noise, stage.noise, stage.sides, self.poisson)
        return compress_batch(images, stage.qualities, stage.sides, self.jpeg)

    def finish(self, images: Tensor, stage: StageDraws, sides: Tensor, buffer: int) -> Tensor:
        """The return to the output's size, the final sinc, and the last JPEG where it comes last: `[B,3,b,b]`."""
        images = resize_stage(images, stage, sides, buffer)
        images = self.blur(images, stage, stage.sides)
        return compress_batch(images, stage.qualities, stage.sides, self.jpeg)


def resize_stage(images: Tensor, stage: StageDraws, sides: Tensor, buffer: int) -> Tensor:
    """Resize pictures of `sides` to the stage's, `[B,3,N,N]` to `[B,3,buffer,buffer]`."""
    weights = resize_matrix(sides, stage.sides, stage.methods, buffer, images.shape[-1])
    return resize_batch(images, weights, weights)


def enlarge(lq: Tensor, sides: Tensor, full: Tensor, size_px: int) -> Tensor:
    """Pictures of `sides`, rounded to 256 levels, by bicubic interpolation to `size_px`, and rounded again."""
    weights = resize_matrix(sides, full, torch.full_like(sides, CUBIC), size_px, lq.shape[-1])
    return level_tensor(resize_batch(level_tensor(lq), weights, weights).div_(255)).div_(255)


def _largest_kernel(config: DegradationConfig) -> int:
    sizes: Sequence[int] = [order.blur.size_range[1] for order in config.orders]
    return max(*sizes, config.sinc_size_range[1])
