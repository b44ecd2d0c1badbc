"""Back-projection: what a sharp photograph already holds stays, where the result is hardly larger.

A result that is brought down to the photograph's size should be that photograph. Where the photograph is sharp and
clean, what they differ by is the model's error, and is taken out of the result; where it is blurred, noisy or badly
compressed, it is what the model was asked to mend.

Source: Irani and Peleg (1991), one iteration; where it is taken is decision D84.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .colour import ColourMatch
from .enlarging import Box, enlarge_difference, reduce_rows, reduced_rows, source_rows
from .low_pass import low_pass, reach

Rows = tuple[int, int]  # first, and one past the last
Size = tuple[int, int]  # height, width

_FINE, _ABOUT = 1, 3  # levels of the low pass: what is finer is compared, in the mean over a window
_SHARPENED = (1.25, 1.1)  # contrast of the result's detail to the photograph's, from which nothing, or all, is trusted
_ALIKE = (0.9, 0.97)  # and their correlation
_UNSEEN = (0.5 / 255) ** 2  # variance of a detail that nobody sees

REACH = reach(_FINE) + 2 * reach(_ABOUT)  # px of the photograph about one that decide about it
MARGIN = REACH + 4  # and about a pixel of the result, those included that it is enlarged from


class Part(NamedTuple):
    """Rows of a picture.

    Attributes:
        pixels: `[N,3,r,w]` float32 in [0,1].
        top: where in the picture they begin.
        size: the picture's (height, width), px.
    """

    pixels: Tensor
    top: int
    size: Size

    def cut(self, rows: Rows) -> Tensor:
        """These rows of the picture."""
        return self.pixels[..., rows[0] - self.top : rows[1] - self.top, :]


def projects(work: Size, size: Size, colour: ColourMatch) -> bool:
    """Whether a result of this size is projected: below the model's scales, worked at a larger one, colours matched."""
    return work != size and colour != "none"


def projection_needs(before: int, after: int, rows: Rows) -> Rows:
    """The rows of a result `after` px high, of a photograph of `before`, that these rows of it are projected from."""
    first, last = _photo_rows(before, after, rows)
    return min(rows[0], reduced_rows(after, before, first)[0]), max(rows[1], reduced_rows(after, before, last - 1)[1])


def back_project(result: Tensor, photo: Tensor) -> Tensor:
    """Take out of a result what it is wrong about, as far as the photograph can be trusted.

    Args:
        result: `[N,3,H,W]` float32 in [0,1].
        photo: `[N,3,h,w]` float32 in [0,1], no side larger.

    Returns:
        `[N,3,H,W]` float32 in [0,1].
    """
    whole, small = (Part(image, 0, (image.shape[-2], image.shape[-1])) for image in (result, photo))
    return back_project_rows(whole, small, (0, whole.size[0]))


def back_project_rows(result: Part, photo: Part, rows: Rows) -> Tensor:
    """Some rows of what `back_project` makes of a result, to the bit.

    Args:
        result: with the rows that `projection_needs` names, or more.
        photo: with those about them.
        rows: that are wanted.
    """
    seen = _photo_rows(photo.size[0], result.size[0], rows)
    wanted = photo.cut(seen)
    made = reduce_rows(result.pixels, result.top, result.size[0], photo.size, seen)
    wrong = wanted - made
    for error, before, after in zip(wrong, wanted, made, strict=True):
        error.mul_(_trust(before.mean(dim=0), after.mean(dim=0)))
    correction = enlarge_difference(wrong, seen[0], photo.size, result.size, Box(*rows, 0, result.size[1]))
    return correction.add_(result.cut(rows)).clamp_(0, 1)


def _photo_rows(before: int, after: int, rows: Rows) -> Rows:
    """The photograph's rows that decide about rows of the result."""
    first, last = source_rows(before, after, *rows)
    return max(0, first - REACH), min(before, last + REACH)


def _trust(photo: Tensor, made: Tensor) -> Tensor:
    """How far a photograph is trusted, 0 to 1, by what a model made of it, at its own size; both `[h,w]`."""
    photo, made = (plane - low_pass(plane, _FINE) for plane in (photo, made))
    variance, made_variance = (low_pass(plane.square(), _ABOUT).add_(_UNSEEN) for plane in (photo, made))
    correlation = low_pass(photo * made, _ABOUT) / (variance * made_variance).sqrt()
    sharpened = (made_variance / variance).sqrt()
    return low_pass(_ramp(sharpened, *_SHARPENED) * _ramp(correlation, *_ALIKE), _ABOUT)


def _ramp(values: Tensor, none: float, full: float) -> Tensor:
    return torch.clamp((values - none) / (full - none), 0, 1)
