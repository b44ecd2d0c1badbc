"""Plain changes of size, with no network in them, of a whole picture or of a part as it is in the whole."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_CUBIC = -0.75  # Keys' parameter, as OpenCV, torch and the field's bicubic inputs have it


class Box(NamedTuple):
    """A part of a picture, px; bottom and right exclusive."""

    top: int
    bottom: int
    left: int
    right: int


class _Taps(NamedTuple):
    """What the pixels of a stretch of one axis are made of: source indices and weights, `[4,n]` both."""

    places: Tensor
    weights: Tensor


def enlarge(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic, and without moire where a side gets smaller; of the same size it is the image itself, to the bit.

    Args:
        image: `[N,C,h,w]`.
        size: (height, width) of the result, px.

    Returns:
        `[N,C,*size]` float32 in [0,1].
    """
    if tuple(image.shape[-2:]) == size:
        return image.float().clamp(0, 1)
    if size[0] < image.shape[-2] or size[1] < image.shape[-1]:
        return F.interpolate(image.float(), size=size, mode="bicubic", antialias=True).clamp_(0, 1)
    return enlarge_box(image, 0, (image.shape[-2], image.shape[-1]), size, Box(0, size[0], 0, size[1]))


def source_rows(before: int, after: int, top: int, bottom: int) -> tuple[int, int]:
    """The rows, first and one past the last, of a picture `before` px high that `enlarge_box` needs for these of it."""
    index = _find_taps(before, after, top, bottom).places
    return int(index.min()), int(index.max()) + 1


def enlarge_box(rows: Tensor, top: int, source: tuple[int, int], size: tuple[int, int], box: Box) -> Tensor:
    """A part of what `enlarge` makes of a picture, to the bit, out of as many of its rows as that needs.

    Args, Returns: as of `enlarge_difference`, in [0,1].
    """
    return enlarge_difference(rows, top, source, size, box).clamp_(0, 1)


def enlarge_difference(rows: Tensor, top: int, source: tuple[int, int], size: tuple[int, int], box: Box) -> Tensor:
    """`enlarge_box` of what is no picture, so that its values may lie anywhere.

    Where a pixel comes from is found in float64: in torch's own bicubic, whose positions are float32, a part would
    differ from the whole by what positions far down are rounded.

    Args:
        rows: `[N,C,r,w]`, of the picture's full width.
        top: where in the picture they begin; see `source_rows`.
        source: (height, width) of the picture, px.
        size: of the enlarged one, no side smaller.
        box: the part, in enlarged px.

    Returns:
        `[N,C,box height,box width]` float32.
    """
    across = _find_taps(source[1], size[1], box.left, box.right)
    down = _find_taps(source[0], size[0], box.top, box.bottom)
    # Across first, while there are few rows.
    return _mix(_mix(rows.float(), across, 3), _Taps(down.places - top, down.weights), 2)


def _find_taps(before: int, after: int, start: int, stop: int) -> _Taps:
    place = (torch.arange(start, stop, dtype=torch.float64) + 0.5) * (before / after) - 0.5
    first = place.floor()
    shares = place - first
    weight = torch.stack([_far(1 + shares), _near(shares), _near(1 - shares), _far(2 - shares)]).float()
    index = first.long() + torch.arange(-1, 3)[:, None]
    return _Taps(index.clamp_(0, before - 1), weight)


def _near(x: Tensor) -> Tensor:
    """The cubic kernel up to 1 px from its centre."""
    return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    """The cubic kernel from 1 to 2 px."""
    return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC


def _mix(image: Tensor, taps: _Taps, dim: int) -> Tensor:
    shape = [1] * image.ndim
    shape[dim] = -1
    index, weight = taps.places.to(image.device), taps.weights.to(image.device)
    mixed = image.index_select(dim, index[0]).mul_(weight[0].view(shape))
    for place, share in zip(index[1:], weight[1:], strict=True):
        mixed.addcmul_(image.index_select(dim, place), share.view(shape))
    return mixed


def reduce(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The mean over the area of each pixel of the result; whole ratios are exact, others a little softer.

    Args:
        image: `[N,C,h,w]` float32, no side smaller than the result's.
        size: (height, width) of the result, px.
    """
    return image if tuple(image.shape[-2:]) == size else F.interpolate(image, size=size, mode="area")


def reduced_rows(before: int, after: int, row: int) -> tuple[int, int]:
    """The rows, first and one past the last, whose mean `reduce` puts into a row of its result."""
    return row * before // after, -(-(row + 1) * before // after)


def reduce_rows(image: Tensor, top: int, before: int, size: tuple[int, int], rows: tuple[int, int]) -> Tensor:
    """Some rows of what `reduce` makes of an image, to the bit, out of as many of its rows as that needs.

    Args:
        image: `[N,C,r,w]`, of the image's full width.
        top: where in the image they begin; see `reduced_rows`.
        before: the image's height, px.
        size: (height, width) of the result, no side larger.
        rows: of the result, first and one past the last.
    """
    if before == size[0]:
        return reduce(image[..., rows[0] - top : rows[1] - top, :], (rows[1] - rows[0], size[1]))
    spans = [reduced_rows(before, size[0], row) for row in range(*rows)]
    # Row by row, as windows of another height would begin elsewhere.
    return torch.cat([reduce(image[..., begin - top : end - top, :], (1, size[1])) for begin, end in spans], dim=-2)
