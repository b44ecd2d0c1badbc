"""A photograph in memory: pixels as a tensor, and what its file said about them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..text import quoted
from .checks import LEAST_DPI, MOST_DPI, check_tensor, is_dpi, to_integer
from .tiff_tree import Directory

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True, kw_only=True, eq=False)
class Notes:
    """What a file says about its photograph, besides what is needed to show it.

    Attributes:
        dpi: dots per inch, across and down; None if the file gives none.
        exif: without what says how pixels are stored.
        blobs: XMP and IPTC, under libvips' names.
        texts: a PNG's chunks of text, name and content; what others call a comment is one of them.
        colours: a PNG's chunks that say what its levels mean, besides a profile.

    Raises:
        ConfigError: the resolution is one that no file can hold.
    """

    dpi: tuple[float, float] | None = None
    exif: Directory | None = None
    blobs: tuple[tuple[str, bytes], ...] = ()
    texts: tuple[tuple[bytes, bytes], ...] = ()
    colours: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        if self.dpi is not None and not is_dpi(self.dpi):
            limits = f"from {LEAST_DPI} to {MOST_DPI:,} dpi"
            raise ConfigError(f"a resolution is two numbers {limits}, across and down, got {quoted(self.dpi, 80)}")

    def strip(self) -> "Notes":
        """What is needed to show the picture, and nothing else."""
        return Notes(colours=self.colours)


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A photograph and what its file said about it.

    Attributes:
        pixels: [3, H, W] RGB in [0, 1], float32, in the colour space of `icc_profile`; a grey photo has equal channels.
        alpha: [1, H, W] opacity in [0, 1], or None.
        bit_depth: 8 or 16, the precision to write with where the format allows.
        is_grey: the file has one colour channel, and will have one again.
        icc_profile: bytes of the colour profile, or None for sRGB.
        path: where the photo was read from.
        notes: what else the file says.
        is_lossless_webp: it comes from a WebP without loss, and will be one again.
        has_damage: its decoder met damage, filled it with what it could, and went on.
        left_out: channels of the file that are neither colours nor opacity, and not in here.

    Raises:
        ShapeError: pixels or alpha are no tensors, or of another shape or kind of values than given above.
        ConfigError: `bit_depth` is neither 8 nor 16, a profile is no bytes, or notes are none.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    bit_depth: int = 8
    is_grey: bool = False
    icc_profile: bytes | None = None
    path: Path | None = None
    notes: Notes = Notes()
    is_lossless_webp: bool = False
    has_damage: bool = False
    left_out: int = 0

    def __post_init__(self) -> None:
        check_tensor(self.pixels, "a photo's pixels")
        shape = list(self.pixels.shape)
        if len(shape) != 3 or shape[0] != 3 or 0 in shape:
            raise ShapeError(f"a photo needs pixels of shape [3, H, W], got {shape}")
        if self.alpha is not None:
            check_tensor(self.alpha, "a photo's alpha")
        if self.alpha is not None and list(self.alpha.shape) != [1, *shape[1:]]:
            raise ShapeError(f"alpha of shape {list(self.alpha.shape)} does not fit pixels of shape {shape}")
        if to_integer(self.bit_depth) not in (8, 16):
            raise ConfigError(f"a photo has 8 or 16 bits per channel, got {quoted(self.bit_depth, 80)}")
        if not isinstance(self.icc_profile, bytes | None):
            raise ConfigError(f"a photo's icc_profile is its bytes, or None, got {quoted(self.icc_profile, 80)}")
        if not isinstance(self.notes, Notes):
            raise ConfigError(f"a photo's notes are Notes(), if there are none too, got {quoted(self.notes, 80)}")

    @property
    def is_opaque(self) -> bool:
        """Whether nothing is lost by leaving alpha out."""
        return self.alpha is None or bool((self.alpha >= 1).all())


@dataclass(frozen=True)
class LevelKind:
    """What the levels of an opaque picture are in a file, and on their way.

    Attributes:
        bit_depth: 8 or 16.
        is_grey: whether there is one channel.
    """

    bit_depth: int
    is_grey: bool

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.is_grey else 3

    def to_levels(self, pixels: Tensor) -> NDArray[Any]:
        """`[3,h,w]` to `[h,w,channels]`; see `photo_to_levels`."""
        return _to_levels(pixels, None, self)

    def to_pixels(self, levels: NDArray[Any]) -> Tensor:
        """`[h,w,channels]` to `[1,3,h,w]`; see `levels_to_photo`."""
        return levels_to_photo(levels, has_alpha=False).pixels[None]


def levels_to_photo(
    levels: NDArray[Any], *, has_alpha: bool, icc_profile: bytes | None = None, path: Path | None = None
) -> Photo:
    """The photo that a decoded file holds.

    Args:
        levels: [H, W, channels], uint8 or uint16; one or three colours, then alpha if there is one.
        has_alpha: the last channel is alpha.
        icc_profile: bytes of the colour profile.
        path: where the levels were read from.
    """
    peak = np.iinfo(levels.dtype).max
    planes = torch.from_numpy(np.ascontiguousarray(levels.transpose(2, 0, 1), dtype=np.float32)).div_(peak)
    colours, alpha = (planes[:-1], planes[-1:]) if has_alpha else (planes, None)
    is_grey = len(colours) == 1
    return Photo(
        pixels=colours.repeat(3, 1, 1) if is_grey else colours,
        alpha=alpha,
        bit_depth=8 * levels.itemsize,
        is_grey=is_grey,
        icc_profile=icc_profile,
        path=path,
    )


def photo_to_levels(photo: Photo, *, bit_depth: int, with_alpha: bool) -> NDArray[Any]:
    """Levels as files hold them: [H, W, channels] of uint8 or uint16, the inverse of `levels_to_photo`.

    Values outside [0, 1] are clamped; a grey photo becomes its luma.
    """
    alpha = photo.alpha if with_alpha else None
    return _to_levels(photo.pixels, alpha, LevelKind(bit_depth, photo.is_grey))


def _to_levels(pixels: Tensor, alpha: Tensor | None, kind: LevelKind) -> NDArray[Any]:
    colours = pixels.detach().float()
    if kind.is_grey:
        colours = torch.einsum("chw,c->hw", colours, colours.new_tensor(LUMA))[None]
    planes = colours if alpha is None else torch.cat((colours, alpha.detach().to(colours)))
    levels = planes.clamp(0, 1).mul_(2**kind.bit_depth - 1).round_().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(levels, dtype=np.uint8 if kind.bit_depth == 8 else np.uint16)
