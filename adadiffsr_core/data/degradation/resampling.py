"""Batched resizing and re-indexing of pictures that each fill their own corner of a common buffer.

A batch is float `[B,C,N,N]`; picture i is square and lies in its first `sides[i]` rows and columns. What lies beyond is
never read: every function here reaches a pixel by an index or a weight that stays inside the picture. So shapes do not
depend on what is drawn, and a device is never waited for.
"""

import torch
from torch import Tensor

AREA, LINEAR, CUBIC = 0, 1, 2
CUBIC_SHAPE = -0.75  # OpenCV's choice of the free parameter of cubic convolution


def _column(values: Tensor) -> Tensor:
    return values.float()[:, None, None]


def _area_weights(sides: Tensor, scale: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Share of source pixel `before` in each output pixel `after` that covers `scale` of them."""
    # rounded, the last output pixel might reach a hair beyond the picture
    end = torch.minimum((after + 1) * scale, sides)
    return (torch.minimum(before + 1, end) - torch.maximum(before, after * scale)).clamp_(min=0).div_(scale)


def _cubic_weights(part: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the four neighbours of a position `part` behind the second of them."""
    far, near, a = part + 1, 1 - part, CUBIC_SHAPE
    first = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a
    second = ((a + 2) * part - (a + 3)) * part * part + 1
    third = ((a + 2) * near - (a + 3)) * near * near + 1
    return first, second, third, 1 - first - second - third


def area_matrix(sides: Tensor, out_sides: Tensor, rows: int, columns: int) -> Tensor:
    """Weights of exact area averaging, float32 `[B,rows,columns]`: of `sides` `[B]` px made `out_sides` `[B]` px.

    `out_sides` must not be larger than `sides`; with both equal it is the identity.
    """
    after = torch.arange(rows, device=sides.device, dtype=torch.float32)[:, None]
    before = torch.arange(columns, device=sides.device, dtype=torch.float32)
    return _area_weights(_column(sides), _column(sides) / _column(out_sides), after, before)


def _enlarging_area(after: Tensor, sides_in: Tensor, sides_out: Tensor) -> tuple[Tensor, Tensor]:
    """The source pixel of each output pixel where `INTER_AREA` enlarges, and how much of the next one it takes.

    In double precision and in OpenCV's order: where an output pixel begins just at a source pixel's border, its
    rounding decides which of the two is taken whole.
    """
    larger = sides_out.double() / sides_in.double()
    first = (after.double() * (1 / larger)).floor()
    part = (after.double() + 1 - (first + 1) * larger).float()
    return first.float(), torch.where(part > 0, part - part.floor(), 0.0)


def resize_matrix(sides: Tensor, out_sides: Tensor, methods: Tensor, rows: int, columns: int) -> Tensor:
    """Weights that resize one axis of each picture by its own filter, float32 `[B,rows,columns]`.

    Source: the conventions of OpenCV's `resize`: pixel centres, repeated borders, no smoothing before linear or cubic
    reduction, and an own kind of linear filter where `INTER_AREA` enlarges. Equal sides give the identity.

    Args:
        sides, out_sides: `[B]` px, before and after, at most `columns` and `rows`.
        methods: `[B]`, AREA, LINEAR or CUBIC.
        rows, columns: sides of the buffers after and before, px.
    """
    sides_in, sides_out, method = _column(sides), _column(out_sides), _column(methods)
    after = torch.arange(rows, device=sides.device, dtype=torch.float32)[:, None]
    before = torch.arange(columns, device=sides.device, dtype=torch.float32)
    scale = sides_in / sides_out
    position = (after + 0.5) * scale - 0.5
    enlarges_area = (method == AREA) & (scale < 1)
    area_first, area_part = _enlarging_area(after, sides_in, sides_out)
    first = torch.where(enlarges_area, area_first, position.floor())
    part = torch.where(enlarges_area, area_part, position - first)
    linear = (torch.zeros_like(part), 1 - part, part, torch.zeros_like(part))
    weights = torch.zeros((len(sides), rows, columns), device=sides.device)
    for tap, (by_line, by_cube) in enumerate(zip(linear, _cubic_weights(part), strict=True)):
        place = torch.minimum((first + (tap - 1)).clamp(min=0), sides_in - 1)
        weights += (before == place) * torch.where(method == CUBIC, by_cube, by_line)
    averaged = _area_weights(sides_in, scale, after, before)
    return torch.where((method == AREA) & (scale >= 1), averaged, weights).mul_(after < sides_out)


def resize_batch(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply weights to both axes: `[B,C,N,N]` by `[B,M,N]` down the rows and along the columns to `[B,C,M,M]`."""
    # the channels are folded into the rows, so that the weights are not copied for each
    along = torch.bmm(images.flatten(1, 2), columns.transpose(1, 2))
    return torch.matmul(rows[:, None], along.view(*images.shape[:3], -1))


def round_to_levels(images: Tensor) -> Tensor:
    """Float in [0,1] to whole numbers from 0 to 255, still float; anything beyond [0,1] goes beyond."""
    half = torch.full((1,), 0.5, device=images.device)
    return torch.add(half, images, alpha=255).floor_()


def take(images: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
    """Pick rows and columns of each picture: `[B,C,N,N]` by int64 `[B,P]` and `[B,Q]` to `[B,C,P,Q]`."""
    batch, channels = images.shape[:2]
    if rows is not None:
        images = images.gather(2, rows[:, None, :, None].expand(batch, channels, -1, images.shape[3]))
    if columns is not None:
        images = images.gather(3, columns[:, None, None].expand(batch, channels, images.shape[2], -1))
    return images


def reflected_index(sides: Tensor, length: int, margin: int) -> Tensor:
    """Where row `i - margin` of a picture continued by reflection without repeating its border is: int64 `[B,length]`.

    However small the picture, every index is inside it.
    """
    side = sides.long()[:, None]
    period = (2 * side - 2).clamp(min=1)
    index = (torch.arange(length, device=sides.device) - margin).abs() % period
    return torch.minimum(index, period - index).clamp(min=0)


def repeated_index(sides: Tensor, length: int) -> Tensor:
    """Where row i of a picture whose last row is repeated without end is: int64 `[B,length]`."""
    return torch.minimum(torch.arange(length, device=sides.device), sides.long()[:, None] - 1)
