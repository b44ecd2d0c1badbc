"""A tensor that is made from top to bottom, of which only the rows that are still needed are in memory."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ShapeError


class RowStream:
    """Rows `[...,height,w]`, made piece by piece as they are asked for.

    Rows above the last ones that were asked for are forgotten: readers go downwards, and may overlap.

    Args:
        pieces: tensors `[...,rows,w]` that follow each other downwards.
        height: rows in all.
        top: where the first piece begins; nothing above is ever asked for.
    """

    def __init__(self, pieces: Iterable[Tensor], height: int, top: int = 0) -> None:
        self.height = height
        self._pieces = iter(pieces)
        self._held: list[Tensor] = []
        self._top = self._bottom = top

    def read(self, top: int, bottom: int) -> Tensor:
        """The rows from `top` to `bottom - 1`.

        Raises:
            ShapeError: they are not on the canvas, were forgotten, or there were fewer than was said.
        """
        if not self._top <= top < bottom <= self.height:
            raise ShapeError(
                f"rows {top} to {bottom} of {self.height} cannot be read; those above {self._top} are gone"
            )
        self._forget(top)
        while self._bottom < bottom:
            piece = next(self._pieces, None)
            if piece is None:
                raise ShapeError(f"a picture of {self.height} rows ended after {self._bottom}")
            self._bottom += piece.shape[-2]
            self._held.append(piece)
            self._forget(top)  # a piece may end above what is asked for
        parts, place = [], self._top
        for piece in self._held:
            rows = piece[..., max(0, top - place) : max(0, bottom - place), :]
            if rows.shape[-2]:
                parts.append(rows)
            place += piece.shape[-2]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def _forget(self, top: int) -> None:
        while self._held and self._top + self._held[0].shape[-2] <= top:
            self._top += self._held.pop(0).shape[-2]
        if self._held and top - self._top > self._held[0].shape[-2] // 2:
            # A copy, since a view would hold on to the whole piece.
            self._held[0] = self._held[0][..., top - self._top :, :].clone()
            self._top = top
