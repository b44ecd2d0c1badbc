import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from adadiffsr_core.data.dataset import PairConfig, PairDataset, PhotoCache, draw_crop, split_photos
from adadiffsr_core.data.degradation.kernels import BlurConfig
from adadiffsr_core.data.degradation.noise import NoiseConfig
from adadiffsr_core.data.degradation.single import DegradationConfig, OrderConfig, degrade, from_levels
from adadiffsr_core.data.photo_files import find_images, load_image
from adadiffsr_core.errors import ConfigError, ImageError

AREA_ONLY = DegradationConfig(
    orders=(
        OrderConfig(
            blur=BlurConfig(prob=0),
            noise=NoiseConfig(prob=0),
            resize_probs=(0.0, 0.0, 1.0),
            filter_probs=(1.0, 0.0, 0.0),
            jpeg_prob=0,
        ),
    ),
    sinc_prob=0,
)
NOTHING = replace(AREA_ONLY, scale=1)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def coordinates(height, width):
    """Every pixel says where it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, np.zeros_like(x)], axis=2).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    for i in range(5):
        Image.fromarray(picture(48 + 8 * i, 60, i)).save(tmp_path / f"{i}.png")
    return find_images([tmp_path])


def small(**changes):
    return PairConfig(**{"size_px": 32, **changes})


def test_find_images_looks_in_sub_folders_and_sorts(tmp_path):
    (tmp_path / "b").mkdir()
    wanted = [tmp_path / "a.PNG", tmp_path / "b" / "c.jpg", tmp_path / "d.webp", tmp_path / "e.tif"]
    for path in [*wanted, tmp_path / ".hidden.jpg", tmp_path / "SOURCES.tsv"]:
        path.touch()
    assert find_images([tmp_path, tmp_path / "b"]) == sorted(wanted)


def test_find_images_refuses_what_holds_none(tmp_path):
    with pytest.raises(ImageError, match="no image"):
        find_images([tmp_path])
    with pytest.raises(ImageError, match="not a folder"):
        find_images([tmp_path / "nowhere"])


def write_sources(folder, rows, header="crop\tsource\tlicence\tphoto"):
    lines = [header, *("\t".join(row) for row in rows)]
    (folder / "SOURCES.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_split_never_cuts_a_photograph(tmp_path):
    # two sources, each with photographs 0 to 39 of five crops
    crops = [(f"{s}_{p}_{c}.jpg", s, "CC0", f'"{p}" of us.jpg') for s in "ab" for p in range(40) for c in range(5)]
    write_sources(tmp_path, crops)
    split = split_photos([tmp_path / crop[0] for crop in crops], 0.3)
    train, held_out = ({path.name.rsplit("_", 1)[0] for path in side} for side in split)
    assert train.isdisjoint(held_out)
    assert len(train) + len(held_out) == 80
    assert 12 <= len(held_out) <= 36
    # the same id in another source is another photograph
    assert {name[1:] for name in held_out if name[0] == "a"} != {name[1:] for name in held_out if name[0] == "b"}


def test_split_is_not_moved_by_more_files_or_another_place():
    few = [Path(f"one/{i}.png") for i in range(0, 300, 3)]
    many = [Path(f"two/{i}.png") for i in range(300)]
    held_out = {path.name for path in split_photos(many, 0.2).held_out}
    assert {path.name for path in split_photos(few, 0.2).held_out} == held_out & {path.name for path in few}


def test_split_obeys_share_and_seed():
    paths = [Path(f"{i}.png") for i in range(2000)]
    first, other = split_photos(paths, 0.1), split_photos(paths, 0.1, seed=1)
    assert len(first.held_out) == pytest.approx(200, abs=45)
    assert sorted(first.train + first.held_out) == sorted(paths)
    assert first.held_out != other.held_out
    assert set(first.held_out) < set(split_photos(paths, 0.2).held_out)
    assert split_photos(paths, 0).held_out == []
    assert split_photos(paths, 1).train == []


def test_a_file_that_is_not_listed_is_its_own_photograph(tmp_path):
    write_sources(tmp_path, [("a.jpg", "s", "CC0", "p")])
    paths = [tmp_path / f"{i}.jpg" for i in range(50)]
    assert 0 < len(split_photos(paths, 0.5).held_out) < 50


def test_split_refuses_a_table_without_its_columns_and_a_bad_share(tmp_path):
    write_sources(tmp_path, [], header="file\tphoto")
    with pytest.raises(ImageError, match="no column crop"):
        split_photos([tmp_path / "a.jpg"], 0.5)
    with pytest.raises(ConfigError, match="holdout"):
        split_photos([], 1.5)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_load_image_gives_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(picture(5, 7)).convert(mode).save(path)
    image = load_image(path)
    assert image.shape == (5, 7, 3)
    assert image.dtype == np.uint8


def test_load_image_turns_a_photograph_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn to the left
    Image.fromarray(picture(5, 7)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), np.rot90(picture(5, 7), -1))


def test_load_image_refuses_what_is_no_8_bit_image(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    for name, words in {"text.jpg": "cannot be read", "missing.png": "cannot be read", "deep.png": "8 bits"}.items():
        with pytest.raises(ImageError, match=words):
            load_image(tmp_path / name)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 48), st.floats(0.1, 1), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_crop_has_its_size_whatever_the_image(height, width, size, min_scale, seed):
    crop = draw_crop(picture(height, width), size, np.random.default_rng(seed), min_scale)
    assert crop.shape == (size, size, 3)
    assert crop.dtype == np.uint8
    assert crop.flags.c_contiguous


def test_crop_without_scaling_is_a_window_in_all_eight_ways():
    ways, corners = set(), set()
    for seed in range(200):
        crop = draw_crop(coordinates(40, 50), 16, np.random.default_rng(seed), 1.0).astype(int)
        rows, columns = (crop[..., i] - crop[..., i].min() for i in (0, 1))
        assert sorted(zip(rows.ravel(), columns.ravel(), strict=True)) == sorted(np.ndindex(16, 16))
        ways.add((rows[0, 0], columns[0, 0], rows[0, -1], columns[0, -1]))
        corners.add((crop[..., 0].min(), crop[..., 1].min()))
    assert len(ways) == 8
    assert {0, 24} <= {y for y, _ in corners}
    assert {0, 34} <= {x for _, x in corners}


def test_scale_jitter_stays_in_its_range_and_uses_it():
    spans = []
    for seed in range(100):
        crop = draw_crop(coordinates(200, 200), 32, np.random.default_rng(seed), 0.25).astype(int)
        spans.append(np.ptp(crop[..., 0]) + 1)
    assert min(spans) < 40
    assert 110 < max(spans) <= 128


def test_a_small_image_is_reflected_and_not_enlarged():
    crop = draw_crop(coordinates(20, 20), 32, np.random.default_rng(0), 0.5).astype(int)
    # neighbours still differ by exactly one pixel
    assert set(np.abs(np.diff(crop[..., :2], axis=1)).sum(2).ravel()) == {1}


def test_cache_holds_what_its_budget_allows(photos):
    image_mb = load_image(photos[0]).nbytes / 2**20
    cache = PhotoCache(2.5 * image_mb)
    for path in [*photos, photos[0]]:
        np.testing.assert_array_equal(cache.load(path), load_image(path))
        assert cache.held <= cache.budget
    assert cache.load(photos[0]) is cache.load(photos[0])
    nothing = PhotoCache(0)
    assert nothing.load(photos[0]) is not nothing.load(photos[0])
    assert nothing.held == 0


def test_cache_gives_up_what_was_not_used_longest(photos):
    sizes = [load_image(path).nbytes for path in photos]
    cache = PhotoCache(sum(sizes[:3]) / 2**20)
    first, second, _ = (cache.load(path) for path in photos[:3])
    assert cache.load(photos[0]) is first
    cache.load(photos[3])
    assert cache.load(photos[0]) is first
    assert cache.load(photos[1]) is not second


def test_pairs_have_their_form(photos):
    dataset = PairDataset(photos, small(), seed=0, length=12)
    assert len(dataset) == 12
    for gt, lq_up in dataset:
        for image in (gt, lq_up):
            assert image.shape == (3, 32, 32)
            assert image.dtype == torch.uint8
            assert image.is_contiguous()
        assert not torch.equal(gt, lq_up)


def test_an_item_depends_on_seed_and_index_alone(photos):
    forwards = list(PairDataset(photos, small(), seed=3, length=8))
    fresh = PairDataset(photos, small(cache_mb=0), seed=3, length=100)
    for index in (7, 0, 4):
        for one, other in zip(fresh[index], forwards[index], strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(PairDataset(photos, small(), seed=4, length=8)[0][0], forwards[0][0])
    assert not torch.equal(forwards[0][0], forwards[1][0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_workers_change_nothing(photos):
    dataset = PairDataset(photos, small(), seed=1, length=10)
    alone, shared = (list(DataLoader(dataset, batch_size=5, num_workers=count)) for count in (0, 2))
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_a_pickled_dataset_is_light_and_the_same(photos):
    dataset = PairDataset(photos, small(), seed=1, length=3)
    before = dataset[2]
    data = pickle.dumps(dataset)
    assert len(data) < 5000
    assert torch.equal(pickle.loads(data)[2][1], before[1])  # noqa: S301 (written one line above)


def test_lq_comes_back_to_size_as_torch_does_it(photos):
    gt, lq_up = PairDataset(photos, small(mild_prob=1), seed=0, length=1, mild=AREA_ONLY)[0]
    lq = degrade(from_levels(gt.permute(1, 2, 0).numpy()), np.random.default_rng(0), AREA_ONLY)
    up = F.interpolate(torch.from_numpy(lq).permute(2, 0, 1)[None], scale_factor=4, mode="bicubic")[0].clamp(0, 1)
    assert (up * 255 - lq_up.float()).abs().max() <= 1


@pytest.mark.parametrize(("mild_prob", "untouched"), [(0.0, 0), (1.0, 40), (0.5, 20)])
def test_the_mixture_arrives(photos, mild_prob, untouched):
    dataset = PairDataset(photos, small(mild_prob=mild_prob), seed=0, length=40, mild=NOTHING)
    assert sum(torch.equal(*pair) for pair in dataset) == pytest.approx(untouched, abs=10 if untouched == 20 else 0)


def test_every_photograph_is_used(photos):
    flat = [np.full((40, 40, 3), 40 * i, np.uint8) for i in range(len(photos))]
    for path, image in zip(photos, flat, strict=True):
        Image.fromarray(image).save(path)
    dataset = PairDataset(photos, small(), seed=0, length=60)
    assert {int(gt.max()) for gt, _ in dataset} == {40 * i for i in range(len(photos))}


def test_bad_arguments_are_refused(photos):
    with pytest.raises(ConfigError, match="multiple"):
        PairDataset(photos, small(size_px=30), seed=0, length=1)
    with pytest.raises(ConfigError, match="no photograph"):
        PairDataset([], small(), seed=0, length=1)
    for bad in ({"mild_prob": 2}, {"min_scale": 0}, {"size_px": 0}, {"cache_mb": -1}):
        with pytest.raises(ConfigError):
            small(**bad)
    with pytest.raises(ConfigError, match="no setting"):
        PairConfig.from_dict({"size": 256})
    dataset = PairDataset(photos, small(), seed=0, length=2)
    for index in (-1, 2):
        with pytest.raises(IndexError):
            dataset[index]


def test_a_share_of_the_pairs_is_of_plain_colours(photos):
    def plain(share):
        pairs = PairDataset(photos, small(flat_share=share), 3, 40, NOTHING)
        return [len(gt.flatten(1).unique(dim=1).T) <= 2 for gt, _ in (pairs[i] for i in range(40))]

    assert not any(plain(0.0))
    assert all(plain(1.0))
    assert 8 <= sum(plain(0.5)) <= 32
    assert plain(0.5) == plain(0.5)


def test_what_is_not_plain_stays_a_photograph(photos):
    """Whichever of the two it is, the low-quality twin is of the same picture."""
    pairs = PairDataset(photos, small(flat_share=0.5, scales=(1.0, 1.0), mild_prob=1.0), 3, 20, NOTHING)
    for gt, lq in (pairs[i] for i in range(20)):
        torch.testing.assert_close(lq, gt, atol=1, rtol=0)
