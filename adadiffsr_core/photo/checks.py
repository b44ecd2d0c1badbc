"""What the public door refuses: what is no picture, mask, size or file's name, and what does not belong together."""

import operator
import os
from numbers import Real
from pathlib import Path
from typing import SupportsIndex

import torch
from torch import Tensor

from ..errors import ConfigError, ImageError, ShapeError
from ..sampling.compute_mask import check_levels
from ..text import quoted
from .scales import Size, target_size

_SPARE = 0.5  # beyond [0, 1]: what sharpening leaves there is clamped, and other ranges are told apart from it
LEAST_DPI, MOST_DPI = 0.1, 65535
_REAL = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.bool)


def check_path(path: object) -> Path:
    """A file's name as a program gives it.

    Raises:
        ImageError: it is none, or none that a file can have.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(name := os.fspath(path), str):
        raise ImageError(f"a file is named by a text or a Path, got {_describe(path)}")
    try:
        is_name = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        is_name = False
    if not is_name:
        raise ImageError(f"{quoted(name, 80)} is a name that no file can have")
    return Path(name)


def check_tensor(value: object, what: str) -> None:
    """Refuse what is no tensor of real numbers: levels of whole numbers would all be white.

    Args:
        value: that a program gives.
        what: it is, as the message says it.

    Raises:
        ShapeError: it is another thing.
    """
    if not isinstance(value, Tensor):
        raise ShapeError(f"{what} must be a tensor, got {_describe(value)}")
    if value.layout != torch.strided or value.is_meta:
        kind = "meta" if value.is_meta else value.layout
        raise ShapeError(f"{what} must be an ordinary tensor, got one that is {kind}; call its to_dense() or load it")
    if value.dtype not in _REAL:
        raise ShapeError(
            f"{what} must hold values between 0 and 1 of float32, float16, bfloat16 or float64, got {value.dtype}; "
            "divide levels by 255"
        )


def check_range(image: Tensor) -> None:
    """Refuse images of another range than [0,1], which would come out black or white.

    Raises:
        ShapeError: they are.
    """
    if image.dtype == torch.bool:
        return
    least, most = (float(value) for value in image.detach().aminmax())
    if least < -_SPARE or most > 1 + _SPARE:
        raise ShapeError(
            f"an image must lie between 0 and 1, got values from {least:.3g} to {most:.3g}; divide levels by 255, or "
            "bring -1 to 1 there by (x + 1) / 2"
        )


def check_mask(image: Tensor, mask: Tensor | None) -> None:
    """Check that a compute mask, where there is one, belongs to these images.

    Raises:
        ShapeError: it does not, or it holds what is no level.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype.is_complex or mask.layout != torch.strided or mask.is_meta:
        check_tensor(mask, "a compute mask")
    if mask.ndim != 4 or mask.shape[1] != 1 or 0 in mask.shape:
        raise ShapeError(f"a compute mask must be [N or 1,1,height,width], got {tuple(mask.shape)}")
    if len(mask) not in (1, len(image)):
        raise ShapeError(f"a compute mask must be one for all images or one for each, got {len(mask)} for {len(image)}")
    check_levels(mask)


def check_image(image: Tensor, size: Size) -> Size:
    """Check that there are images `[N,3,H,W]`, or `[N,4,H,W]` with opacity, and that the result has a size.

    Returns:
        The size in whole numbers of Python's, whatever they came in.

    Raises:
        ShapeError: there are none, or they hold NaN.
        ConfigError: a result would have no pixels, or more than fit.
    """
    check_tensor(image, "an image")
    if image.ndim != 4 or image.shape[1] not in (3, 4) or 0 in image.shape:
        raise ShapeError(f"an image must be [N,3 or 4,height,width] with at least one pixel, got {tuple(image.shape)}")
    if not bool(torch.isfinite(image).all()):
        raise ShapeError("the image holds NaN or infinity; repair it first")
    return _check_size(image, size)


def _check_size(image: Tensor, size: Size) -> Size:
    try:
        height, width = (_to_whole(side) for side in size)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"a size must be (height, width) in whole px, got {quoted(size, 80)}") from None
    if min(height, width) < 1:
        raise ConfigError(f"the result must be at least 1x1 px, got {width}x{height}")
    return target_size((image.shape[-2], image.shape[-1]), 1.0, (height, width))


def _to_whole(side: object) -> int:
    """4.0 is whole, as are numpy's numbers and tensors of one."""
    number = int(side)  # type: ignore[call-overload]
    if number != side:
        raise ValueError
    return int(number)


def to_integer(value: object) -> int | None:
    """A whole number of any kind, such as numpy's, as Python's own; None of all else, and of a truth value."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError):  # arrays and tensors that are no single number
        return None


def is_dpi(dpi: object) -> bool:
    """Whether it is a resolution that files hold: two numbers from `LEAST_DPI` to `MOST_DPI`, across and down."""
    return (
        isinstance(dpi, tuple | list)
        and len(dpi) == 2
        and all(isinstance(dots, Real) for dots in dpi)
        and all(LEAST_DPI <= dots <= MOST_DPI for dots in dpi)
    )


def _describe(value: object) -> str:
    return f"{quoted(value, 80)}, a {type(value).__name__}"
