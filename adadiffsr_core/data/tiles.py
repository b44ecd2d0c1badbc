"""Tiles as a model is given them to restore: degraded ones, and parts of photographs as they are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .dataset import PairConfig, PairDataset, draw_crop
from .degradation.filtering import import_cv2


class TileDataset(Dataset[Tensor]):
    """Enlarged low-quality tiles, uint8 `[3,S,S]`, by turns of a degraded pair and of a photograph as it is.

    What is given to be made larger is mostly not degraded, and has skies and blur without noise in them, which pairs
    have not (decision D91). Item i depends on the seed and i alone.

    Args:
        paths: photographs to draw from.
        config: how pairs are drawn, and how large a part of a photograph is enlarged: as many times as pairs are.
        seed: of everything that is drawn.
        length: number of items.

    Raises:
        ConfigError: see `PairDataset`.
    """

    def __init__(self, paths: Sequence[Path], config: PairConfig, seed: int, length: int) -> None:
        self.pairs = PairDataset(paths, config, seed, length)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        """Draw tile `index`.

        Raises:
            IndexError: `index` is not in [0, length).
            ImageError: a photograph cannot be read.
        """
        if index % 2 == 0 or not 0 <= index < len(self):
            return self.pairs[index][1]
        cv2, paths, config = import_cv2(), self.pairs.paths, self.pairs.config
        rng = np.random.Generator(np.random.SFC64([self.pairs.seed, index]))
        photo = self.pairs.cache.load(paths[rng.integers(len(paths))])
        scale = rng.uniform(*config.scales) if config.scales else self.pairs.pipelines[0].scale
        part = draw_crop(photo, round(config.size_px / scale), rng, config.min_scale)
        tile = cv2.resize(part, (config.size_px, config.size_px), interpolation=cv2.INTER_CUBIC)
        return torch.from_numpy(tile).permute(2, 0, 1).contiguous()
