"""What a quality metric is, and how its values become comparable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..constants import constant
from ..errors import ConfigError, MissingExtraError, ShapeError


@dataclass(frozen=True)
class MetricInfo:
    """What a metric's numbers mean.

    Attributes:
        name: the name `create_metric` knows it by.
        needs_reference: full-reference (compares with a truth) rather than no-reference.
        higher_is_better: the direction of its values.
        worst: the value that `normalise_metrics` maps to 0.
        best: the value that `normalise_metrics` maps to 1.

    Raises:
        ConfigError: `worst` and `best` contradict the direction.
    """

    name: str
    needs_reference: bool
    higher_is_better: bool
    worst: float
    best: float

    def __post_init__(self) -> None:
        if self.worst == self.best or (self.best > self.worst) != self.higher_is_better:
            direction = "above" if self.higher_is_better else "below"
            raise ConfigError(f"best of {self.name} must lie {direction} worst, got {self.best} and {self.worst}")


class Metric(Protocol):
    """A picture's quality as one number per image."""

    @property
    def info(self) -> MetricInfo:
        """What the numbers mean."""
        ...

    def __call__(self, image: Tensor, reference: Tensor | None = None) -> Tensor:
        """Images [N,3,H,W] in [0,1], and truths of the same shape where needed -> values [N], float32."""
        ...


@dataclass(frozen=True)
class CheckedMetric:
    """A `Metric` made of a plain function and the checks every metric needs.

    Attributes:
        info: what the numbers mean.
        compute: (image, reference) -> values [N], for images that have been checked.
        min_side: the smallest height and width in pixels that `compute` can use.
        device: where `compute` works and its values are.
    """

    info: MetricInfo
    compute: Callable[..., Tensor]
    min_side: int
    device: torch.device

    def __call__(self, image: Tensor, reference: Tensor | None = None) -> Tensor:
        """Measure images.

        A no-reference metric ignores `reference`, so one call fits both kinds. Values carry no gradient.

        Args:
            image: [N,3,H,W] in [0,1].
            reference: the truths, of the same shape; needed if `info.needs_reference`.

        Returns:
            Values [N], float32; NaN where the metric is undefined, such as NIQE on a flat image.

        Raises:
            ShapeError: a wrong or too small shape, values outside [0,1], or NaN.
            ConfigError: a reference is needed and was not given.
        """
        name = self.info.name
        _check_image(f"the image for {name}", image, self.min_side)
        truth = None
        if self.info.needs_reference:
            if reference is None:
                raise ConfigError(f"{name} compares with a truth; give a reference image or choose another metric")
            if reference.shape != image.shape:
                raise ShapeError(
                    f"{name} needs images of one shape, got {_size(image)} and reference {_size(reference)}"
                )
            _check_image(f"the reference for {name}", reference, self.min_side)
            truth = reference.to(self.device, torch.float32)
        # Not inference_mode: its tensors may not be targets of a loss.
        with torch.no_grad():
            return self.compute(image.to(self.device, torch.float32), truth).float()


def normalise_metrics(values: Tensor, worst: Sequence[float], best: Sequence[float]) -> Tensor:
    """Map values `[...,M]` of M metrics to [0,1], 1 best: linear between what 0 and 1 stand for of each, clamped.

    Source: M_c in Eq. 2. NaN stays NaN.
    """
    low, high = constant(worst, values), constant(best, values)
    return ((values - low) / (high - low)).clamp(0, 1)


def missing_packages(name: str, packages: str, error: Exception) -> MissingExtraError:
    """What to raise where a metric's packages are not installed.

    It names the packages and not our extra `iqa`: inside ComfyUI nobody has installed us with pip.

    Args:
        name: of the metric.
        packages: what pip must install, separated by spaces.
        error: how their absence was noticed.
    """
    return MissingExtraError(
        f"{name} needs packages that are not installed ({error}); run `pip install {packages}` with the Python that "
        "runs this, which in ComfyUI is ComfyUI's own"
    )


def _size(image: Tensor) -> str:
    return "x".join(map(str, image.shape))


def _check_image(what: str, image: Tensor, min_side: int) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or len(image) == 0:
        raise ShapeError(f"{what} must have shape [N,3,H,W], got {_size(image)}")
    if min(image.shape[-2:]) < min_side:
        raise ShapeError(f"{what} has {_size(image)}; height and width must be at least {min_side} px")
    if not image.is_floating_point():
        raise ShapeError(f"{what} must hold floats in [0,1], got {image.dtype}; divide 8-bit levels by 255")
    low, high = (float(value) for value in image.aminmax())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # also refuses NaN
        raise ShapeError(f"{what} must have values in [0,1], got {low:.4g} to {high:.4g}; clamp or repair it first")
