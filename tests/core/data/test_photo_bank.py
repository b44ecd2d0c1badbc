from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adadiffsr_core.data.dataset import draw_crop
from adadiffsr_core.data.photo_bank import PIECE_PX, PhotoBank, cut_photo
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.errors import ConfigError, ImageError
from adadiffsr_core.models.processor import Processor

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, META = Processor(), Processor(torch.device("meta"))


def coordinates(height, width):
    """Every pixel says where it is, at a quarter of a pixel's precision up to 512 px."""
    y, x = np.mgrid[:height, :width] // 2
    return np.stack([y, x, np.full_like(x, 7)], axis=2).astype(np.uint8)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def bank_of(*photos):
    cuts = [piece for photo in photos for piece in cut_photo(photo)]
    return PhotoBank(
        torch.stack([torch.from_numpy(piece) for piece, _ in cuts]), torch.tensor([side for _, side in cuts])
    )


@pytest.fixture
def folder(tmp_path):
    for i, (height, width) in enumerate([(40, 60), (512, 480), (700, 1100)]):
        Image.fromarray(noise(height, width, i)).save(tmp_path / f"{i}.png")
    return tmp_path


def eight_ways(picture):
    turned = [np.rot90(picture, turn) for turn in range(4)]
    return turned + [one[:, ::-1] for one in turned]


def test_pieces_are_as_many_as_fit_and_reach_both_ends():
    photo = noise(512, 1300)
    first, second = (piece for piece, _ in cut_photo(photo))
    np.testing.assert_array_equal(first, photo[:, :512].transpose(2, 0, 1))
    np.testing.assert_array_equal(second, photo[:, -512:].transpose(2, 0, 1))
    assert len(list(cut_photo(noise(1540, 1100)))) == 6
    ((middle, side),) = cut_photo(noise(600, 700))
    np.testing.assert_array_equal(middle, noise(600, 700)[44:556, 94:606].transpose(2, 0, 1))
    assert side == (512, 512)


def test_a_small_photograph_is_continued_by_reflection():
    photo = noise(300, 400)
    ((piece, side),) = cut_photo(photo)
    assert side == (300, 400)
    expected = np.pad(photo, ((0, 212), (0, 112), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(piece, expected.transpose(2, 0, 1))


def test_without_scaling_a_crop_is_a_part_of_the_photograph_turned_in_one_of_eight_ways():
    photo = noise(24, 24)
    bank = bank_of(photo)
    crops = bank.draw(200, 24, 1.0, CPU.generator(0, 0))
    ways = [tuple(way.ravel()) for way in eight_ways(photo)]
    drawn = [ways.index(tuple(np.rint(crop.permute(1, 2, 0).numpy() * 255).astype(int).ravel())) for crop in crops]
    assert min(np.bincount(drawn, minlength=8)) > 10


def test_crops_come_from_everywhere_in_every_photograph_but_not_from_its_reflection():
    bank = bank_of(coordinates(300, 400), coordinates(300, 400) // 2 + [0, 0, 50])
    crops = bank.draw(400, 64, 1.0, CPU.generator(0, 0)) * 255
    first = crops[:, 2].mean((1, 2)) < 20
    assert 150 < first.sum() < 250
    corners = crops[first].amin((2, 3)).round() * 2
    assert corners[:, 0].min() <= 10
    assert corners[:, 1].min() <= 10
    assert 226 < corners[:, 0].max() <= 236
    assert 322 < corners[:, 1].max() <= 336


def test_scales_reach_from_the_smallest_to_one():
    bank = bank_of(coordinates(512, 512))
    crops = bank.draw(300, 64, 0.5, CPU.generator(0, 0)) * 255
    widths = (crops.amax((2, 3)) - crops.amin((2, 3)))[:, :2].amax(1) * 2
    assert 60 < widths.min() < 70
    assert 118 < widths.max() <= 128


def test_a_crop_as_large_as_the_photograph_allows_is_not_scaled():
    crops = bank_of(coordinates(100, 480)).draw(50, 100, 0.5, CPU.generator(0, 0)) * 255
    spans = (crops.amax((2, 3)) - crops.amin((2, 3)))[:, :2]  # 100 px touch 50 or 51 of the pairs
    assert torch.all((spans > 48.9) & (spans < 50.1))


def test_detail_is_averaged_away_as_in_single_crops():
    photo = noise(96, 96)
    ours = bank_of(photo).draw(400, 48, 0.5, CPU.generator(3, 0)).flatten(1).std(1).numpy()
    rng = np.random.default_rng(0)
    theirs = [(draw_crop(photo, 48, rng, 0.5) / 255).std() for _ in range(400)]
    shares = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(ours, shares), np.quantile(theirs, shares), atol=0.015)


def test_the_same_seed_and_step_draw_the_same_and_others_others():
    bank = bank_of(noise(200, 200))
    first, again, later, other = (
        bank.draw(4, 32, 0.5, CPU.generator(*which)) for which in ((1, 2), (1, 2), (1, 3), (2, 2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("size_px", "min_scale"), [(1, 0.5), (37, 0.3), (512, 0.5), (255, 1.0)])
def test_any_size_is_on_levels(size_px, min_scale):
    crops = bank_of(noise(97, 333)).draw(3, size_px, min_scale, CPU.generator(0, 0))
    assert crops.shape == (3, 3, size_px, size_px)
    assert 0 <= crops.min() <= crops.max() <= 1
    torch.testing.assert_close(crops * 255, (crops * 255).round(), atol=1e-4, rtol=0)


def test_a_folder_is_read_once_and_its_cache_is_the_same(folder, tmp_path, monkeypatch):
    paths, cache = find_images([folder]), tmp_path / "cache" / "photos.safetensors"
    bank = PhotoBank.open(paths, cache)
    assert len(bank) == 4
    monkeypatch.setattr("adadiffsr_core.data.photo_bank.load_image", None)
    again = PhotoBank.open(paths, cache)
    assert torch.equal(again.pieces, bank.pieces)
    assert torch.equal(again.sides, bank.sides)


def test_a_cache_of_other_photographs_or_a_damaged_one_is_made_again(folder, tmp_path):
    paths, cache = find_images([folder]), tmp_path / "cache" / "photos.safetensors"
    PhotoBank.open(paths, cache)
    assert len(PhotoBank.open(paths[:2], cache)) == 2
    cache.write_bytes(b"damaged")
    assert len(PhotoBank.open(paths, cache)) == 4


def test_the_bank_lives_on_its_device(folder):
    bank = PhotoBank.read(find_images([folder]), META)
    crops = bank.draw(5, 64, 0.5, META.generator(0, 0))
    assert crops.is_meta
    assert crops.shape == (5, 3, 64, 64)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    bank = bank_of(noise(20, 20))
    for size_px, min_scale in ((0, 0.5), (PIECE_PX + 1, 0.5), (64, 0.0), (64, 1.5)):
        with pytest.raises(ConfigError, match="size_px must be"):
            bank.draw(1, size_px, min_scale, CPU.generator(0, 0))
    with pytest.raises(ConfigError, match="no photograph"):
        PhotoBank.read([])
    with pytest.raises(ImageError, match="cannot be read"):
        PhotoBank.open([Path(tmp_path / "missing.png")], tmp_path / "cache.safetensors")
