"""Bands give the bits of the whole, whatever their height, wherever they begin and whoever made the tiles."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets import autoencoder as autoencoder_module
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.photo import back_projection
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.photo.value import LevelKind
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.sampling import run as run_module
from adadiffsr_core.sampling.compute_mask import fit_pixels
from adadiffsr_core.sampling.report import join_reports
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.settings import PRESETS, SamplingConfig
from adadiffsr_core.streaming import layout as layout_module
from adadiffsr_core.streaming.bands import Bands
from adadiffsr_core.streaming.masked import FittedRows, MaskRows
from adadiffsr_core.streaming.pieces import Picture
from adadiffsr_core.streaming.spread import Spread
from adadiffsr_core.streaming.stream import Stream, Watch
from tests.oracles import TINY_MMLE, TINY_PFJ, randomise, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = SamplingConfig(steps=6, solver="euler", tile_size=64, overlap=16, tile_batch=8, dtss=DtssConfig(nr_from=0.3))


@pytest.fixture(scope="module")
def model():
    """With all that depends on which tiles share a call."""
    return replace(tiny_model(), mmle=randomise(Mmle(TINY_MMLE)), pfj=randomise(Pfj(TINY_PFJ)))


@pytest.fixture
def small_pieces(monkeypatch):
    """Many blocks and many pieces in a small picture."""
    monkeypatch.setattr(autoencoder_module, "BLOCK", 6)
    monkeypatch.setattr(layout_module, "_FINISHED_PX", 20)
    monkeypatch.setattr(layout_module, "FULL_BATCHES", 1)
    monkeypatch.setattr(run_module, "FULL_BATCHES", 1)


@pytest.fixture(autouse=True)
def trusting(monkeypatch):
    """What a random network makes is trusted here and there, so that back-projection is seen."""
    monkeypatch.setattr(back_projection, "_ALIKE", (-0.6, 0.6))
    monkeypatch.setattr(back_projection, "_SHARPENED", (3.0, 0.1))


def draw(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def rows_of(mask, each=7):
    return None if mask is None else MaskRows(tuple(mask.shape[-2:]), lambda: mask.split(each, dim=2))


def stream_all(bands, picture, first=0, mask=None):
    parts, mask = [], rows_of(mask)
    watch = Watch(end=lambda part, report: parts.append(report))
    stream = Stream(bands, lambda: picture.split(5, dim=2), first, mask, watch)
    return torch.cat(list(stream.rows()), dim=1), parts


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("source", "size", "changes"),
    [
        ((60, 45), (240, 180), {}),
        ((61, 23), (183, 69), {"solver": "ddpm"}),
        ((70, 20), (140, 40), {}),  # worked at 4 and reduced
        ((50, 33), (76, 51), {"colour": "none"}),  # likewise, by no whole number
        ((90, 33), (131, 51), {}),
        ((150, 9), (150, 9), {"overlap": 8}),  # narrower than a tile
        ((5, 60), (20, 240), {"overlap": 48}),  # one row of tiles, and columns that overlap more than twice
        ((44, 9), (190, 36), {"overlap": 48}),
    ],
)
def test_bands_give_the_bits_of_the_whole(model, source, size, changes):
    config, picture = replace(CONFIG, **changes), draw(*source)
    model = replace(model, scales=Scales(3, 8))
    whole = upscale(model, picture, size, config)
    bands = Bands(model, source, size, config)
    result, reports = stream_all(bands, picture)
    assert torch.equal(result, whole.image[0])
    joined, one = join_reports(reports), whole.report
    assert joined.tiles == one.tiles
    assert (joined.nfe, joined.likeness) == (one.nfe, one.likeness)
    assert bands.work.size == whole.work_size


def paint(height, width, seed=0):
    """A mask of few large places, each black, some level, or white."""
    coarse = torch.randint(0, 4, (1, 1, 4, 3), generator=torch.Generator().manual_seed(seed)) / 3
    return F.interpolate(coarse, size=(height, width), mode="nearest")


SHAPES = [
    ((60, 45), (240, 180), {}, (240, 180)),
    ((61, 23), (183, 69), {"solver": "ddpm"}, (61, 23)),
    ((70, 20), (140, 40), {}, (300, 55)),  # worked at 4 and reduced
    ((50, 33), (76, 51), {"colour": "none"}, (60, 99)),  # likewise, by no whole number
    ((150, 9), (150, 9), {"overlap": 8}, (150, 9)),  # narrower than a tile
    ((5, 60), (20, 240), {"overlap": 48}, (4, 3)),
    ((44, 9), (190, 36), {"overlap": 48}, (191, 37)),
    ((90, 12), (360, 48), {"dtss": DtssConfig(rule="bounded", likeness=30.0)}, (90, 12)),
]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("source", "size", "changes", "painted"), SHAPES)
def test_bands_with_a_mask_give_the_bits_of_the_whole(model, source, size, changes, painted, seed):
    config, picture, mask = replace(CONFIG, **changes), draw(*source), paint(*painted, seed)
    model = replace(model, scales=Scales(3, 8))
    whole = upscale(model, picture, size, config, mask=mask)
    assert (fit_pixels(mask, size) == 0).any()
    result, reports = stream_all(Bands(model, source, size, config), picture, mask=mask)
    assert torch.equal(result, whole.image[0])
    joined = join_reports(reports)
    assert joined.tiles == whole.report.tiles
    assert (joined.nfe, joined.likeness) == (whole.report.nfe, whole.report.likeness)
    first = Random(seed).randrange(len(Bands(model, source, size, config).result_rows))
    bands = Bands(model, source, size, config)
    result, _ = stream_all(bands, picture, first, mask)
    assert torch.equal(result, whole.image[0, :, bands.result_rows[first][0] :])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("rule", ["paper", "bounded"])
@pytest.mark.parametrize("size", [(240, 180), (90, 70)])
def test_where_a_mask_is_black_all_over_no_network_is_called(model, size, rule, monkeypatch):
    picture, config = draw(60, 45), replace(CONFIG, dtss=replace(CONFIG.dtss, rule=rule))
    whole = upscale(model, picture, size, config, mask=torch.zeros(1, 1, 9, 9))
    for network in (model.unet, model.autoencoder.encoder, model.autoencoder.decoder):
        monkeypatch.setattr(network, "forward", None)
    bands = Bands(model, (60, 45), size, config, is_left=True)
    result, reports = stream_all(bands, picture, mask=torch.zeros(1, 1, 9, 9))
    assert torch.equal(result, whole.image[0])
    assert bands.work.size == whole.work_size
    joined, one = join_reports(reports).to_dict(), whole.report.to_dict()
    assert joined | {"seconds": 0} == one | {"seconds": 0}


@pytest.mark.parametrize("seed", range(40))
def test_a_mask_s_rows_are_fitted_as_the_whole_is(seed):
    random = Random(seed)
    mask = draw(random.randint(1, 90), random.randint(1, 30), seed).mean(dim=1, keepdim=True)
    size = (random.randint(1, 200), random.randint(1, 50))
    whole, rows = fit_pixels(mask, size), FittedRows(rows_of(mask), size)
    top = 0
    while top < size[0]:
        bottom = random.randint(top + 1, size[0])
        assert torch.equal(rows.read(top, bottom), whole[..., top:bottom, :])
        top = random.randint(top, bottom)
        if top == bottom:
            break


def test_of_a_mask_a_few_rows_are_held():
    pieces = []

    def read():
        for number in range(200):
            pieces.append(number)
            yield torch.full((1, 1, 10, 4), number / 200)

    rows = FittedRows(MaskRows((2000, 4), read), (1000, 8))
    assert not pieces  # nor is the file opened before it is needed
    for top in range(0, 900, 20):
        rows.read(top, top + 30)
        assert sum(piece.shape[-2] for piece in rows._rows._held) <= 2 * 30 + 2 * 10
        assert len(pieces) <= 2 * (top + 30) // 10 + 1


@pytest.mark.slow
@pytest.mark.parametrize("mask", [None, paint(300, 500)], ids=["all", "masked"])
@pytest.mark.parametrize("threads", [1, 2])
def test_bands_of_the_embedded_model_give_the_bits_of_the_whole(threads, mask, monkeypatch):
    torch.set_num_threads(threads)  # which `one_thread` sets back
    model, picture, size = load_model(), draw(21, 21), (672, 672)
    picture = F.interpolate(picture, size=(168, 168), mode="bicubic").clamp(0, 1)
    config = replace(PRESETS["everyday"], tile_size=128, overlap=32, steps=6)
    whole = upscale(model, picture, size, config, mask=mask).image[0]
    monkeypatch.setattr(Bands, "parts", lambda self, begin=0: [(row, row + 1) for row in range(begin, self.grid.rows)])
    result, reports = stream_all(Bands(model, (168, 168), size, config), picture, mask=mask)
    assert len(reports) == 7
    assert torch.equal(result, whole)


@pytest.mark.usefixtures("small_pieces")
def test_a_stream_may_begin_anywhere(model):
    picture, size = draw(120, 40), (480, 160)
    bands = Bands(model, (120, 40), size, CONFIG)
    whole, _ = stream_all(bands, picture)
    for first, (top, _) in enumerate(bands.result_rows):
        result, reports = stream_all(bands, picture, first)
        assert torch.equal(result, whole[:, top:])
        assert sum(len(report.tiles) for report in reports) <= bands.grid.count
    assert reports[0].tiles[0].top > 0  # nothing is made of what lies far above


@pytest.mark.parametrize(
    ("size", "changes", "words"),
    [
        ((30, 80), {}, "gets smaller"),
        ((160, 160), {"merge": "every_step"}, "merge final"),
        ((160, 160), {"colour": "adain"}, "wavelet"),
    ],
)
def test_what_needs_the_whole_picture_is_refused(model, size, changes, words):
    with pytest.raises(ConfigError, match=words):
        Bands(model, (40, 40), size, replace(CONFIG, **changes))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize(
    ("source", "size", "changes"),
    [
        ((60, 45), (240, 180), {}),
        ((70, 20), (140, 40), {}),
        ((50, 33), (76, 51), {"colour": "none"}),
        ((90, 33), (131, 51), {}),
        ((44, 9), (190, 36), {"overlap": 48}),
        ((3, 9), (12, 36), {}),
    ],
)
def test_work_done_in_any_order_gives_the_bits_of_the_whole(model, source, size, changes, is_masked, seed):
    config, picture = replace(CONFIG, **changes), (draw(*source) * 255).round() / 255
    model, random = replace(model, scales=Scales(3, 8)), Random(seed)
    mask = paint(*source, seed + 1) if is_masked else None
    whole = upscale(model, picture, size, config, mask=mask).image[0]
    kind = LevelKind(8, False)
    top = random.choice([0, size[0] // 2, size[0] - 1])
    spread = Spread(
        Picture(source, size, config, kind, LevelKind(16, False)),
        model,
        lambda: picture.split(5, dim=2),
        3,
        top,
        rows_of(mask),
    )
    waiting, rows = [], []
    while not spread.is_done:
        waiting += spread.work()
        assert len(waiting) <= 3 * (3 + 1)
        work = waiting.pop(random.randrange(len(waiting)))
        rows += spread.settle(work, work(model))
    assert (np.concatenate(rows) == LevelKind(16, False).to_levels(whole[:, top:])).all()
    assert not waiting
    assert not list(spread.work())
