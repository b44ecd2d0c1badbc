"""Gaussian Latent Merge."""

from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..adadiffsr_core.sampling.compute_mask import keep_untouched
from ..adadiffsr_core.sampling.merge import MIN_SPREAD, SPREAD, merge_tiles
from .door import ask
from .schema import TILES, Node, Of, Table, check_range
from .tiles import Tiles


class GaussianLatentMerge(Node):
    """Overlapping tiles to one latent (section 3.4)."""

    table = Table(
        node_id="AdaDiffSR_GaussianLatentMerge",
        display_name="Gaussian Latent Merge",
        search_aliases=["AdaDiffSR", "merge tiles", "tile", "blend", "seams"],
        category="AdaDiffSR/sampling",
        description="Joins finished tiles into one latent, with Gaussian weights, so that no seam shows.",
        inputs=[
            TILES,
            (
                "spread",
                Of(io.Float, default=SPREAD, min=MIN_SPREAD, max=1.0, step=0.01, advanced=True),
                "Width of the Gaussian about each tile's centre, as a share of the tile's side. More "
                "blends more softly and lets more of the tiles' edges through.",
            ),
        ],
        outputs=[("latent", io.Latent, "The whole picture's latent, ready for VAE Decode.")],
    )

    @classmethod
    def validate_inputs(cls, spread: Any = None) -> bool | str:
        """Before anything runs, since this comes after the sampling; None is what is linked."""
        return spread is None or ask(lambda: check_range(cls.table, "spread", spread)) or True

    @classmethod
    def execute(cls, tiles: Tiles, spread: float) -> io.NodeOutput:
        """See `merge`."""
        return io.NodeOutput({**tiles.latent, "samples": merge(tiles, spread)})


def merge(tiles: Tiles, spread: float = SPREAD) -> Tensor:
    """Finished tiles as one latent of the shape that went in, with the input where the compute mask is black."""
    merged, given = merge_tiles(tiles.estimates, tiles.grid, spread), tiles.latent["samples"]
    if tiles.mask is not None:
        merged = keep_untouched(merged, given.reshape(merged.shape).to(merged), tiles.mask)
    # Models that were made for video want a frame, which tiles have not.
    return merged.reshape(given.shape)
