"""The blur that pictures are compared by: an a-trous low pass, made of additions alone.

So a part of a picture has the whole's values, to the bit, wherever it was cut off further away than the blur looks.
"""

from torch import Tensor


def low_pass(plane: Tensor, levels: int) -> Tensor:
    """A blur whose width doubles at each level, but for levels wider than the picture; it looks `reach(levels)` px far.

    Args:
        plane: `[H,W]`.
        levels: how often it is blurred, by taps 1, 2, 4 px apart and so on.
    """
    for level in range(levels):
        for dim in (0, 1):
            if 2**level < plane.shape[dim]:
                plane = _blur(plane, 2**level, dim)
    return plane


def reach(levels: int) -> int:
    """How many px about a pixel `low_pass` looks at."""
    return int(2**levels) - 1


def _blur(plane: Tensor, dilation: int, dim: int) -> Tensor:
    """Taps (1, 2, 1) / 4 that are `dilation` apart; beyond the edge the edge value repeats."""
    inner = plane.shape[dim] - dilation
    out = plane * 0.5
    out.narrow(dim, dilation, inner).add_(plane.narrow(dim, 0, inner), alpha=0.25)
    out.narrow(dim, 0, dilation).add_(plane.narrow(dim, 0, 1), alpha=0.25)
    out.narrow(dim, 0, inner).add_(plane.narrow(dim, dilation, inner), alpha=0.25)
    out.narrow(dim, inner, dilation).add_(plane.narrow(dim, plane.shape[dim] - 1, 1), alpha=0.25)
    return out
