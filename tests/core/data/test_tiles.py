"""Tiles to restore: by turns of degraded pairs, and of photographs as they are."""

import pytest
import torch

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.data.tiles import TileDataset

CONFIG = PairConfig(size_px=64, min_scale=1.0, scales=(2.0, 4.0))


def test_every_other_tile_is_a_pair_s(photos):
    tiles, pairs = TileDataset(photos, CONFIG, 3, 8), PairDataset(photos, CONFIG, 3, 8)
    assert len(tiles) == 8
    for index in range(8):
        tile = tiles[index]
        assert (tile.dtype, tile.shape) == (torch.uint8, (3, 64, 64))
        assert torch.equal(tile, pairs[index][1]) == (index % 2 == 0)


def test_the_others_are_photographs_enlarged_as_often_as_pairs_are(photos):
    """Brought down again and enlarged again they are what they were."""
    fixed = PairConfig(size_px=64, min_scale=1.0, scales=(4.0, 4.0))
    for config in (fixed, PairConfig(size_px=64, min_scale=1.0)):  # as the pipelines have it is the same
        tiles = TileDataset(photos, config, 3, 8)
        for index in (1, 3, 5, 7):
            tile = tiles[index].float()[None]
            small = torch.nn.functional.interpolate(tile, scale_factor=1 / 4, mode="area")
            again = torch.nn.functional.interpolate(small, size=(64, 64), mode="bicubic")
            assert float((again - tile).square().mean().sqrt()) < 0.1 * float(tile.std())


def test_an_item_depends_on_seed_and_index_alone(photos):
    one, other = TileDataset(photos, CONFIG, 3, 8), TileDataset(photos, CONFIG, 4, 8)
    assert torch.equal(one[5], TileDataset(photos, CONFIG, 3, 6)[5])
    assert not torch.equal(one[5], other[5])
    assert not torch.equal(one[5], one[7])
    for index in (-1, 8, 9):
        with pytest.raises(IndexError):
            one[index]
