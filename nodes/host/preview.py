"""Progress of the whole run in one bar, and a preview of the whole canvas."""

import math
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from ...adadiffsr_core.sampling.tiles import TileGrid, crop_canvas
from ...adadiffsr_core.sampling.turn import Progress

PREVIEWS_PER_SECOND = 4


class Preview:
    """Tells the host after each turn. The bar's total falls as tiles turn out to need fewer evaluations.

    Where they turn out to need more, the total rises no faster than what is done: a bar never goes back.

    A preview of the whole canvas is made at most `PREVIEWS_PER_SECOND` times a second, however many turns there are.

    Attributes:
        canvas: the newest estimate of every tile, one over the other, `[N,C,*grid.padded]`.
    """

    def __init__(self, callback: Callable[..., Any] | None, start: Tensor, grid: TileGrid, is_quiet: bool) -> None:
        self.callback, self.grid = callback, grid
        self.canvas = start.clone()
        self.bar = tqdm(disable=is_quiet, unit=" evaluations")
        self.last, self.told = Progress(0, 0), -math.inf

    def __call__(self, progress: Progress) -> None:
        """The core's `on_step`; whatever the host raises, such as that the user cancelled, goes through."""
        height, width = self.grid.tile
        if progress.denoised is not None:
            for tile_id, denoised in zip(progress.tiles, progress.denoised, strict=True):
                image, top, left = self.grid.locate(tile_id)
                self.canvas[image, :, top : top + height, left : left + width] = denoised
        self.last = replace(progress, expected_nfe=_hold_back(self.last, progress))
        self.bar.total = self.last.expected_nfe
        self.bar.update(progress.nfe - self.bar.n)
        if monotonic() - self.told >= 1 / PREVIEWS_PER_SECOND:
            self._tell(crop_canvas(self.canvas, self.grid))

    def finish(self, merged: Tensor) -> None:
        """Show the merged canvas, which is also what the host hands on as the denoised output."""
        self.close()
        if self.last.nfe:
            self._tell(merged)

    def close(self) -> None:
        """Leave the console as it was."""
        self.bar.close()

    def _tell(self, canvas: Tensor) -> None:
        self.told = monotonic()
        if self.callback is not None:
            self.callback(self.last.nfe - 1, canvas, canvas, self.last.expected_nfe)


def _hold_back(last: Progress, now: Progress) -> int:
    """The total to show: what is expected, or less where the share that is done would fall below the last one."""
    return min(now.expected_nfe, now.nfe * last.expected_nfe // last.nfe) if last.nfe else now.expected_nfe
