"""The Real-ESRGAN degradation pipeline on the CPU: a good photograph to a plausible bad one.

Source: Wang et al., Real-ESRGAN, 2021, section 3 and the published x4plus options. Two things are not taken over: the
sharpened ground truth (our truth is the photograph itself) and the differentiable JPEG (ours is a real one).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from typing_extensions import Self

from ...config import Config
from ...errors import ConfigError, ShapeError
from .filtering import apply_kernel, import_cv2
from .kernels import BlurConfig, draw_kernel, draw_sinc
from .noise import NoiseConfig, add_noise
from .ranges import Range, check_probabilities, check_range, check_shares, check_sizes


@dataclass(frozen=True, kw_only=True)
class OrderConfig(Config):
    """One round of blur, resize, noise and JPEG; the defaults are those of Real-ESRGAN's first order.

    Attributes:
        blur, noise: what is drawn for these.
        resize_probs: of making larger, making smaller and keeping the size.
        resize_range: smallest and largest factor. The last order's is relative to the output's size, any other's to its
            input's.
        filter_probs: of the area, bilinear and bicubic filters.
        jpeg_prob: that the image is compressed.
        jpeg_range: quality, 1 to 100.
    """

    blur: BlurConfig = field(default_factory=BlurConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    resize_probs: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    filter_probs: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    jpeg_prob: float = 1.0
    jpeg_range: Range = (30.0, 95.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("resize_probs", self.resize_probs, 3)
        check_shares("filter_probs", self.filter_probs, 3)
        check_probabilities({"jpeg_prob": self.jpeg_prob})
        check_range("resize_range", self.resize_range, 0.01)
        check_range("jpeg_range", self.jpeg_range, 1, 100)
        if not self.resize_range[0] <= 1 <= self.resize_range[1]:
            raise ConfigError(f"resize_range must contain 1, got {self.resize_range}")


SECOND_ORDER = OrderConfig(
    blur=BlurConfig(prob=0.8, sigma_range=(0.2, 1.5)),
    noise=NoiseConfig(gaussian_range=(1.0, 25.0), poisson_range=(0.05, 2.5)),
    resize_probs=(0.3, 0.4, 0.3),
    resize_range=(0.3, 1.2),
)
MILD_BLUR: Range = (0.5, 2.8)  # standard deviation, px of the good picture
MILD_ORDER = OrderConfig(
    blur=BlurConfig(sigma_range=MILD_BLUR, sinc_prob=0.05),
    noise=NoiseConfig(prob=0.8, gaussian_range=(0.5, 6.0), poisson_range=(0.02, 0.6)),
    resize_probs=(0.1, 0.3, 0.6),
    resize_range=(0.6, 1.2),
    filter_probs=(0.7, 0.15, 0.15),
    jpeg_prob=0.7,
    jpeg_range=(70.0, 98.0),
)


@dataclass(frozen=True, kw_only=True)
class DegradationConfig(Config):
    """The whole pipeline; the defaults are Real-ESRGAN's published ones.

    Attributes:
        scale: how many times smaller the output is.
        orders: rounds of degradation, at least one.
        sinc_prob: of the final sinc filter.
        sinc_size_range: its odd kernel sizes in px; its cutoff is drawn from pi/3 to pi.
        sinc_first_prob: that the return to the output's size and the final sinc come before the last JPEG.
    """

    scale: float = 4
    orders: tuple[OrderConfig, ...] = (OrderConfig(), SECOND_ORDER)
    sinc_prob: float = 0.8
    sinc_size_range: tuple[int, int] = (7, 21)
    sinc_first_prob: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale < 1 or not self.orders:
            raise ConfigError(
                f"scale must be at least 1 and orders not empty, got {self.scale}, {len(self.orders)} orders"
            )
        check_probabilities({"sinc_prob": self.sinc_prob, "sinc_first_prob": self.sinc_first_prob})
        check_sizes("sinc_size_range", self.sinc_size_range)

    @classmethod
    def mild(cls, blur: Range = MILD_BLUR) -> Self:
        """One order of weak noise and compression, nearer to pairs that a camera took at two focal lengths.

        Args:
            blur: smallest and largest standard deviation of the blur, px of the good picture. The one that is taken
                unless another is given was chosen by eye; decision D87 says what cameras have.
        """
        order = replace(MILD_ORDER, blur=replace(MILD_ORDER.blur, sigma_range=blur))
        return cls(orders=(order,), sinc_prob=0.2)


def to_levels(image: np.ndarray) -> np.ndarray:
    """Float in [0,1], anything beyond clipped, to uint8."""
    levels: np.ndarray = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return levels


def from_levels(levels: np.ndarray) -> np.ndarray:
    """uint8 to float32 in [0,1]."""
    image: np.ndarray = levels.astype(np.float32) * np.float32(1 / 255)
    return image


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Write float32 `[H,W,3]` RGB as JPEG of this quality, 4:2:0, and read it back."""
    cv2 = import_cv2()
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(to_levels(image), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return from_levels(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def _resize(rng: np.random.Generator, image: np.ndarray, size: tuple[int, int], config: OrderConfig) -> np.ndarray:
    cv2 = import_cv2()
    method = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.choice(3, p=config.filter_probs)]
    if image.shape[:2] == size:
        return image
    resized: np.ndarray = cv2.resize(image, size[::-1], interpolation=method)
    return resized


def _draw_size(rng: np.random.Generator, size: tuple[int, int], config: OrderConfig) -> tuple[int, int]:
    low, high = ((1.0, config.resize_range[1]), (config.resize_range[0], 1.0), (1.0, 1.0))[
        rng.choice(3, p=config.resize_probs)
    ]
    factor = rng.uniform(low, high)
    return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


def _compress(rng: np.random.Generator, image: np.ndarray, config: OrderConfig) -> np.ndarray:
    if rng.random() >= config.jpeg_prob:
        return image
    return compress(image, round(rng.uniform(*config.jpeg_range)))


def _blur_resize_noise(
    rng: np.random.Generator, image: np.ndarray, size: tuple[int, int], config: OrderConfig
) -> np.ndarray:
    if rng.random() < config.blur.prob:
        image = apply_kernel(image, draw_kernel(rng, config.blur))
    image = _resize(rng, image, _draw_size(rng, size, config), config)
    # bicubic and sinc overshoot, and neither a sensor nor a file does
    return add_noise(rng, np.clip(image, 0, 1), config.noise)


def _finish(
    rng: np.random.Generator, image: np.ndarray, size: tuple[int, int], config: DegradationConfig
) -> np.ndarray:
    image = _resize(rng, image, size, config.orders[-1])
    if rng.random() < config.sinc_prob:
        image = apply_kernel(image, draw_sinc(rng, config.sinc_size_range, np.pi / 3))
    return image


def degrade(gt: np.ndarray, rng: np.random.Generator, config: DegradationConfig) -> np.ndarray:
    """Make a low-quality image of a good one; the same `rng` state gives the same image.

    Source: Real-ESRGAN section 3, Fig. 2.

    Args:
        gt: float32 `[H,W,3]` RGB in [0,1].
        rng: its draws choose every kernel, factor, quality and noise.
        config: what may be drawn.

    Returns:
        float32 `[H // scale, W // scale, 3]` in [0,1], on the 256 levels of an 8-bit file.

    Raises:
        ShapeError: `gt` is not `[H,W,3]` or smaller than `scale`.
        MissingExtraError: OpenCV or scipy is not installed.
    """
    if gt.ndim != 3 or gt.shape[2] != 3 or min(gt.shape[:2]) < config.scale:
        raise ShapeError(f"an image to degrade must be [H,W,3] of at least {config.scale} px, got {list(gt.shape)}")
    image, *earlier, last = gt, *config.orders
    for order in earlier:
        image = _compress(rng, _blur_resize_noise(rng, image, image.shape[:2], order), order)
    size = int(gt.shape[0] / config.scale), int(gt.shape[1] / config.scale)
    image = _blur_resize_noise(rng, image, size, last)
    if rng.random() < config.sinc_first_prob:
        image = _compress(rng, _finish(rng, image, size, config), last)
    else:
        image = _finish(rng, _compress(rng, image, last), size, config)
    return from_levels(to_levels(image))
