"""ControlNets and their like, seen by tiles: copies whose hints are cropped to the tiles of one call."""

import copy
from collections.abc import Sequence
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ...adadiffsr_core.sampling.tiles import TileGrid, pad_canvas
from ...adadiffsr_core.sampling.transfer import send
from .areas import Box


class TiledControls:
    """Copies of a run's ControlNets for each batch of tiles.

    The host's objects keep their last hint, so every batch gets copies of its own; networks, strengths, ranges and the
    chain stay as they are. A hint spans the canvas or, under an area prompt, that area: as in the host.

    Attributes:
        grid: where tiles are.
        factor: image px per latent px.
    """

    def __init__(self, grid: TileGrid, factor: int) -> None:
        self.grid, self.factor = grid, factor
        self._whole: dict[tuple[Any, ...], Tensor] = {}

    def crop(self, control: Any, tiles: Sequence[int], frame: Box, local: Box, device: torch.device) -> Any:
        """A copy of a ControlNet, and of those chained before it, for a batch of tiles.

        Args:
            control: the host's object, or None.
            tiles: ids, in the order of the batch.
            frame: what the hint spans, on the canvas.
            local: what of every tile is evaluated.
            device: of the batch.
        """
        if control is None:
            return None
        copied = copy.copy(control)
        copied.cond_hint = copied.extra_concat = None
        if hasattr(copied, "control_input"):  # T2I-Adapters keep what they made of the hint
            copied.control_input = None
        copied.previous_controlnet = self.crop(control.previous_controlnet, tiles, frame, local, device)
        if isinstance(control.cond_hint_original, Tensor):
            copied.cond_hint_original = self._crop(control, control.cond_hint_original, tiles, frame, local, device)
            masks = getattr(control, "extra_concat_orig", [])
            copied.extra_concat_orig = [
                mask if mask.numel() == 1 else self._crop(control, mask, tiles, frame, local, device) for mask in masks
            ]
        return copied

    def _crop(
        self, control: Any, hint: Tensor, tiles: Sequence[int], frame: Box, local: Box, device: torch.device
    ) -> Tensor:
        ratio = control.compression_ratio if getattr(control, "vae", None) is None else self.factor
        whole = self._fit(hint, frame, ratio, control.upscale_algorithm)
        crops = []
        for tile_id in tiles:
            image, tile_top, tile_left = self.grid.locate(tile_id)
            top = (tile_top + local.top - frame.top) * ratio
            left = (tile_left + local.left - frame.left) * ratio
            size = local.height * ratio, local.width * ratio
            crops.append(_cut(whole[image % len(whole)], (top, left), size))
        return send(torch.stack(crops), device)

    def _fit(self, hint: Tensor, frame: Box, ratio: int, algorithm: str) -> Tensor:
        """The hint at the size of its frame, by the host's own rule; made once a run, and kept where the hint is.

        Of a large canvas it is as large as the picture, of which the device needs some crops at a time.
        """
        key = (id(hint), frame, ratio)
        if key not in self._whole:
            fitted = comfy.utils.common_upscale(hint, frame.width * ratio, frame.height * ratio, algorithm, "center")
            if (frame.height, frame.width) == self.grid.canvas:
                fitted = pad_canvas(fitted, _scale_grid(self.grid, ratio))
            self._whole[key] = fitted
        return self._whole[key]


def _cut(hint: Tensor, start: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """A window `[C,*size]`; what a grown sliver sees beyond the hint's frame is the frame's edge."""
    for dim, (first, length) in enumerate(zip(start, size, strict=True), start=1):
        if 0 <= first <= hint.shape[dim] - length:
            hint = hint.narrow(dim, first, length)
        else:
            places = torch.arange(first, first + length, device=hint.device).clamp(0, hint.shape[dim] - 1)
            hint = hint.index_select(dim, places)
    return hint


def _scale_grid(grid: TileGrid, ratio: int) -> TileGrid:
    (height, width), (tile_height, tile_width) = grid.canvas, grid.tile
    tops, lefts = (tuple(start * ratio for start in starts) for starts in (grid.tops, grid.lefts))
    return TileGrid((height * ratio, width * ratio), (tile_height * ratio, tile_width * ratio), tops, lefts)
