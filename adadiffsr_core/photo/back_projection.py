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
from .enlarging import Box, enlarge_difference, reduce_rows, source_rows
from .low_pass import low_pass, reach
from .scales import Size

Rows = tuple[int, int]  # first, and one past the last

_FINE, _ABOUT = 1, 3  # levels of the low pass: what is finer is compared, in the mean over a window
_SHARPENED = (1.25, 1.1)  # contrast of the result's detail to the photograph's, from which nothing, or all, is trusted
_ALIKE = (0.9, 0.97)  # and their correlation
_UNSEEN = (0.5 / 255) ** 2  # variance of a detail that nobody sees

REACH = reach(_FINE) + 2 * reach(_ABOUT)  # px of the photograph about one that decide about it
MARGIN = REACH + 4  # and about a pixel of the result, with those that it is enlarged and reduced from


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


def back_project(worked: Tensor, photo: Tensor, size: Size) -> Tensor:
    """What `reduce` makes of a restored picture, corrected by the photograph as far as that is trusted.

    Args:
        worked: `[N,3,H,W]` float32 in [0,1], at the size that it was worked at.
        photo: `[N,3,h,w]` float32 in [0,1], no side larger.
        size: (height, width) of the result, between the two.

    Returns:
        `[N,3,*size]` float32 in [0,1].
    """
    whole, small = (Part(image, 0, (image.shape[-2], image.shape[-1])) for image in (worked, photo))
    return back_project_rows(whole, small, size, (0, size[0]))


def back_project_rows(worked: Part, photo: Part, size: Size, rows: Rows) -> Tensor:
    """Some rows of what `back_project` makes, to the bit.

    Args:
        worked: with the rows of it that `MARGIN` px of the photograph about these are made into.
        photo: with those rows.
        size: (height, width) of the result.
        rows: of the result, that are wanted.
    """
    seen = _photo_rows(photo.size[0], size[0], rows)
    wanted, made = photo.cut(seen), reduce_rows(worked.pixels, worked.top, worked.size[0], photo.size, seen)
    wrong = wanted - made
    for error, before, after in zip(wrong, wanted, made, strict=True):
        error.mul_(_trust(before.mean(dim=0), after.mean(dim=0)))
    correction = enlarge_difference(wrong, seen[0], photo.size, size, Box(*rows, 0, size[1]))
    return correction.add_(reduce_rows(worked.pixels, worked.top, worked.size[0], size, rows)).clamp_(0, 1)


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
