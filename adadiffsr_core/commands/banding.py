"""Which pictures are made in bands, and what cannot be asked for of those.

Source: decision D74.
"""

import argparse
from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import ConfigError
from ..memory import available_bytes
from ..photo.limits import MAX_PIXELS
from ..photo.scales import Scales, Size, plan_work
from ..text import in_words
from .drafts import Page
from .resources import bands_bytes, fits_memory

BandMode = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Banding:
    """Which pictures are made in bands.

    Attributes:
        mode: what the user says.
        scales: that the model knows.
        device: of the networks; None where nothing is known of it.
        mask_width: of a compute mask, px, if there is one.
    """

    mode: BandMode
    scales: Scales
    device: torch.device | None
    mask_width: int | None = None

    def is_for(self, source: Size, size: Size) -> bool:
        """Whether a picture of (height, width) px is made in bands, since it or its work do not fit into memory."""
        if self.mode != "auto":
            return self.mode == "always"
        is_known = all(after <= self.scales.most * before + 0.5 for before, after in zip(source, size, strict=True))
        if not is_known and size[0] * size[1] > MAX_PIXELS:
            return False  # a slip of the finger, more likely than hours of work that nobody knows the worth of
        work = plan_work(source, size, self.scales, most=None).size
        largest = max(source[0] * source[1], work[0] * work[1])
        return largest > MAX_PIXELS or not fits_memory(source, work)

    def check(self, page: Page) -> None:
        """Refuse a picture of which not even a band fits into memory.

        Raises:
            ConfigError: it is one.
        """
        width = plan_work(page.source_size, page.size, self.scales, most=None).size[1]
        free, needed = available_bytes(), bands_bytes(width, self.mask_width)
        if free is not None and needed > free:
            raise ConfigError(
                f"there is not enough memory: bands that are worked at {width} px of width need about "
                f"{in_words(needed)}, and {in_words(free)} are free; ask for a smaller --scale or --size"
            )


def check_words(args: argparse.Namespace) -> None:
    """Refuse what is asked for of a picture that is made in bands and needs it whole.

    Raises:
        ConfigError: something is.
    """
    if args.check:
        raise ConfigError("--check needs the whole picture in memory, and it is made in bands; leave it out")
