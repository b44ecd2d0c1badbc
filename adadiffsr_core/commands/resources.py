"""What a run will need, against what there is: refused in a sentence before the work, not after it."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import ConfigError
from ..files import free_bytes
from ..memory import available_bytes
from ..photo.scales import Size
from ..text import in_words

RESULT_BYTES = 62  # of memory per pixel of the result
SOURCE_BYTES = 34  # and per pixel of the photograph
BASE_BYTES = 250 * 10**6  # a batch of tiles on its way through the network
BAND_BYTES = 70_000  # in bands, per pixel of width
MASK_BYTES = 25_000  # and with a mask, per pixel of its or the picture's width, whichever is more
# Of a file, per level (one channel of one pixel): below what photographs take, so that nobody is turned away wrongly.
_FILE_BYTES = {".png": 0.35, ".tif": 0.35, ".tiff": 0.35}
_LOSSY_BYTES = 0.03
_DRAWN_SHARE = 0.15  # of that: maps are muted, half of a comparison is smooth, and both may be enlarged
_REPORT_BYTES = 1000


def whole_bytes(source: Size, size: Size) -> int:
    """Memory of the processor that a picture of (height, width) px takes on its way to one of `size`, held whole."""
    return BASE_BYTES + RESULT_BYTES * size[0] * size[1] + SOURCE_BYTES * source[0] * source[1]


def bands_bytes(width: int, mask_width: int | None = None) -> int:
    """Likewise in bands, of any height, where it is worked at so many px of width, with a mask of so many if any."""
    return BASE_BYTES + BAND_BYTES * width + (0 if mask_width is None else MASK_BYTES * max(width, mask_width))


def fits_memory(source: Size, size: Size) -> bool:
    """Whether a picture can be held whole, as far as anybody knows."""
    free = available_bytes()
    return free is None or whole_bytes(source, size) <= free


def check_memory(source: Size, size: Size, device: torch.device) -> None:
    """Refuse a photograph that the processor's memory cannot hold on its way.

    Args:
        source: (height, width) of the photograph.
        size: of the result.
        device: the networks'; of others nothing is known beforehand.

    Raises:
        ConfigError: more memory is needed than is free.
    """
    free = available_bytes()
    if free is None or device.type != "cpu":
        return
    needed = whole_bytes(source, size)
    if needed > free:
        raise ConfigError(
            f"there is not enough memory: {size[1]} x {size[0]} px ({size[0] * size[1] / 1e6:.3g} MP) need about "
            f"{in_words(needed)}, and {in_words(free)} are free; ask for a smaller --scale or --size"
        )


@dataclass
class DiskBudget:
    """Room on file systems, as files are planned one after another."""

    _planned: dict[int, float] = field(default_factory=dict)

    def plan(self, path: Path, size: Size, *, channels: int = 3, bit_depth: int = 8) -> None:
        """Count on a picture of (height, width) px.

        Raises:
            ConfigError: with those that were planned before, more room is needed than is free.
            OSError: the folder is gone.
        """
        suffix = path.suffix.lower()
        each = _FILE_BYTES[suffix] * bit_depth / 8 if suffix in _FILE_BYTES else _LOSSY_BYTES
        self._take(path, each * channels * size[0] * size[1])

    def plan_rows(self, path: Path, size: Size, there: int, *, channels: int = 3, bit_depth: int = 8) -> None:
        """Count on the rows of a picture that is made in bands, which lie beside it until it is written.

        Args:
            path: of the result.
            size: (height, width), px.
            there: bytes of rows that an earlier run made.
            channels: of the rows.
            bit_depth: of the rows.

        Raises:
            ConfigError: see `plan`.
            OSError: see `plan`.
        """
        self._take(path, max(0, channels * size[0] * size[1] * bit_depth / 8 - there))

    def plan_drawing(self, path: Path, size: Size, zoom: float, columns: int = 1) -> None:
        """Count on a picture about one of (height, width) px, drawn `zoom` times larger, in so many columns.

        Raises:
            ConfigError: see `plan`.
            OSError: see `plan`.
        """
        each = _FILE_BYTES.get(path.suffix.lower(), _LOSSY_BYTES) * _DRAWN_SHARE
        self._take(path, each * 3 * size[0] * size[1] * columns * zoom**2)

    def plan_report(self, path: Path) -> None:
        """Count on a report.

        Raises:
            ConfigError: see `plan`.
            OSError: see `plan`.
        """
        self._take(path, _REPORT_BYTES)

    def _take(self, path: Path, needed: float) -> None:
        device, free = free_bytes(path)
        before = self._planned.get(device, 0)
        if before + needed > free:
            others = f" besides {in_words(before)} for others" if before else ""
            raise ConfigError(
                f"{path} needs about {in_words(needed)} of disk space{others}, and {in_words(free)} are free; make room"
            )
        self._planned[device] = before + needed
