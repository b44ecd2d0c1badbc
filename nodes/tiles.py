"""What travels along a TILES link."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..adadiffsr_core.sampling.report import RunReport
from ..adadiffsr_core.sampling.tiles import TileGrid


@dataclass(frozen=True)
class Tiles:
    """Finished tiles, not merged yet, and how they came to be. Cached by the host, so never changed.

    Attributes:
        estimates: every tile by its id, `[images * grid.count,C,h,w]` float32 on the CPU, in the scale of LATENT.
        grid: where tiles are.
        report: where the evaluations went.
        latent: the LATENT that came in; its `samples` are the low-quality latent `[N,C,H,W]`, or
            `[N,C,1,H,W]` for a model with frames.
        mask: the compute mask on the canvas, `[N or 1,1,H,W]` in [0,1], or None.
        factor: image px per latent px.
    """

    estimates: Tensor
    grid: TileGrid
    report: RunReport
    latent: Mapping[str, Any]
    mask: Tensor | None
    factor: int

    def __repr__(self) -> str:
        """In short: the host shows it where a link is previewed as text."""
        height, width = (side * self.factor for side in self.grid.tile)
        masked = "" if self.mask is None else ", with a compute mask"
        return f"Tiles({len(self.estimates)} of {width}x{height} px{masked}, {self.report!r})"
