"""One number and one sentence for a batch of images."""

import math

from torch import Tensor

from ..errors import ShapeError
from .base import Metric


def rate_images(metric: Metric, image: Tensor, reference: Tensor | None = None) -> tuple[float, str]:
    """A metric's mean over images, and the same in words.

    Args:
        metric: from `create_metric`.
        image: [N,3,H,W]; values outside [0,1] are clamped, as they are where a picture is saved.
        reference: the truths, of the same shape; needed if the metric needs one.

    Returns:
        The mean over N, and a sentence with the direction and each image's value.

    Raises:
        ShapeError: a shape does not fit, an image holds NaN or infinity, or the metric is undefined for one.
        ConfigError: a reference is needed and was not given.
    """
    for batch in (image, reference):
        if batch is not None and not bool(batch.isfinite().all()):  # infinity would be clamped to white
            raise ShapeError("an image holds NaN or infinity; repair it first")
    name = metric.info.name
    values = metric(image.clamp(0, 1), None if reference is None else reference.clamp(0, 1)).tolist()
    undefined = [number for number, value in enumerate(values, start=1) if math.isnan(value)]
    if undefined:
        raise ShapeError(f"{name} is undefined for image {undefined[0]} of {len(values)}; it may be flat, try another")
    mean = sum(values) / len(values)
    direction = "higher" if metric.info.higher_is_better else "lower"
    each = f" ({', '.join(f'{value:.4f}' for value in values)})" if len(values) > 1 else ""
    return mean, f"{name}: {mean:.4f}{each}, {direction} is better"
