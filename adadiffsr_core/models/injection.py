"""Residuals of PFJ for tiles: features once per tile, modulation at every call."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from ..nets.fusion import Residual
from ..nets.pfj import Pfj
from ..sampling.tiles import TileGrid, crop_tiles

# Tiles whose features are kept, at 1 MB each for the embedded model: all that the sampler has in flight in batches of
# up to 16. Computing them anew costs a twentieth of a call of its UNet, and less for larger ones.
KEPT_TILES = 64


class FeatureInjector:
    """Computes what to add to the encoder levels of a UNet, for any tiles of a canvas.

    Features of the `KEPT_TILES` tiles used last stay on the device. Beyond that they are computed anew.

    Source: section 3.4.

    Args:
        pfj: on the device of the latents, in the dtype that it is to run in.
        lq_latent: padded canvas `[N,C,H,W]`.
        grid: where tiles are.
        strength: of the injection.
    """

    def __init__(self, pfj: Pfj, lq_latent: Tensor, grid: TileGrid, strength: float = 1.0) -> None:
        self.pfj, self.lq_latent, self.grid, self.strength = pfj, lq_latent, grid, strength
        self._kept: OrderedDict[int, tuple[Tensor, ...]] = OrderedDict()

    @torch.no_grad()
    def __call__(self, tiles: Sequence[int], gain: Tensor | None) -> tuple[Residual, ...]:
        """Residuals `[B,channels[l],h/2^l,w/2^l]` for each level l, or what makes them of the level's own features.

        Args:
            tiles: id of each item's tile.
            gain: `[B,2]` at each tile's evaluation before; None counts as no gain.
        """
        self._compute([tile for tile in dict.fromkeys(tiles) if tile not in self._kept])
        features = [torch.cat(level) for level in zip(*(self._kept[tile] for tile in tiles), strict=True)]
        for tile in tiles:
            self._kept.move_to_end(tile)
        while len(self._kept) > KEPT_TILES:
            self._kept.popitem(last=False)
        known = features[0].new_zeros(len(tiles), 2) if gain is None else gain
        return self.pfj.modulate(features, known, self.strength)

    def _compute(self, tiles: Sequence[int]) -> None:
        dtype = self.pfj.conv_in.weight.dtype
        for tile in tiles:
            # One by one: which tiles are new together must not show in their bits (decision D70).
            latent = crop_tiles(self.lq_latent, self.grid, [tile]).to(dtype)
            self._kept[tile] = self.pfj.features(latent.contiguous(memory_format=torch.channels_last))
