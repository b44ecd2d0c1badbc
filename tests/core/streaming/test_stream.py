"""Bands give the bits of the whole, whatever their height, wherever they begin and whoever made the tiles."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.models.model import load_model
from adadiffsr_core.nets import autoencoder as autoencoder_module
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.photo.value import LevelKind
from adadiffsr_core.pipeline import upscale
from adadiffsr_core.sampling import run as run_module
from adadiffsr_core.sampling.noise import field_noise
from adadiffsr_core.sampling.noise_rows import noise_rows
from adadiffsr_core.sampling.report import join_reports
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.settings import PRESETS, SamplingConfig
from adadiffsr_core.streaming import bands as bands_module
from adadiffsr_core.streaming.bands import Bands
from adadiffsr_core.streaming.rows import RowStream
from adadiffsr_core.streaming.spread import Picture, Spread
from adadiffsr_core.streaming.stream import Stream
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
    monkeypatch.setattr(bands_module, "_FINISHED_PX", 20)
    monkeypatch.setattr(bands_module, "FULL_BATCHES", 1)
    monkeypatch.setattr(run_module, "FULL_BATCHES", 1)


def draw(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def stream_all(bands, picture, first=0):
    parts = []
    stream = Stream(bands, lambda: picture.split(5, dim=2), first, end=lambda part, report: parts.append(report))
    return torch.cat(list(stream.rows()), dim=1), parts


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("source", "size", "changes"),
    [
        ((60, 45), (240, 180), {}),
        ((61, 23), (183, 69), {"solver": "ddpm"}),
        ((70, 20), (140, 40), {}),  # worked at 4 and reduced
        ((50, 33), (76, 51), {"colour": "none"}),  # likewise, by no whole number
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


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_bands_of_the_embedded_model_give_the_bits_of_the_whole(threads, monkeypatch):
    torch.set_num_threads(threads)  # which `one_thread` sets back
    model, picture, size = load_model(), draw(21, 21), (672, 672)
    picture = F.interpolate(picture, size=(168, 168), mode="bicubic").clamp(0, 1)
    config = replace(PRESETS["everyday"], tile_size=128, overlap=32, steps=6)
    whole = upscale(model, picture, size, config).image[0]
    monkeypatch.setattr(Bands, "parts", lambda self, begin=0: [(row, row + 1) for row in range(begin, self.grid.rows)])
    result, reports = stream_all(Bands(model, (168, 168), size, config), picture)
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


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 17), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**64 - 1), st.data())
def test_noise_rows_are_the_field_s(channels, height, width, seed, data):
    rows = data.draw(st.integers(1, height))
    pieces = list(noise_rows(channels, height, width, seed, rows))
    assert torch.equal(torch.cat(pieces, dim=2), field_noise((1, channels, height, width), seed))


def test_noise_of_a_large_field_is_passed_over_in_chunks(monkeypatch):
    monkeypatch.setattr("adadiffsr_core.sampling.noise_rows._CHUNK", 64)
    pieces = list(noise_rows(5, 37, 29, 7, 11))
    assert torch.equal(torch.cat(pieces, dim=2), field_noise((1, 5, 37, 29), 7))


@pytest.mark.parametrize("seed", range(40))
def test_rows_may_be_read_downwards_in_any_steps(seed):
    random = Random(seed)
    heights = [random.randint(1, 9) for _ in range(random.randint(1, 12))]
    whole = torch.arange(sum(heights) * 2.0).view(1, -1, 2)
    stream, top = RowStream(whole.split(heights, dim=1), whole.shape[1]), 0
    while top < whole.shape[1]:
        bottom = random.randint(top + 1, whole.shape[1])
        assert torch.equal(stream.read(top, bottom), whole[:, top:bottom])
        top = random.randint(top, bottom)
        if top == bottom:
            break


def test_a_stream_of_rows_forgets_what_lies_above():
    made = []

    def pieces():
        for number in range(100):
            made.append(number)
            yield torch.full((1, 10, 2), float(number))

    stream = RowStream(pieces(), 1000)
    for top in range(0, 900, 7):
        stream.read(top, top + 30)
        assert sum(piece.shape[1] for piece in stream._held) <= 30 + 2 * 10
        assert len(made) <= (top + 30) // 10 + 1  # nothing is made before it is needed
    with pytest.raises(ShapeError, match="gone"):
        stream.read(100, 130)
    with pytest.raises(ShapeError, match="ended after 30"):
        RowStream(torch.zeros(1, 30, 2).split(10, dim=1), 40).read(25, 35)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("source", "size", "changes"),
    [
        ((60, 45), (240, 180), {}),
        ((70, 20), (140, 40), {}),
        ((50, 33), (76, 51), {"colour": "none"}),
        ((44, 9), (190, 36), {"overlap": 48}),
        ((3, 9), (12, 36), {}),
    ],
)
def test_work_done_in_any_order_gives_the_bits_of_the_whole(model, source, size, changes, seed):
    config, picture = replace(CONFIG, **changes), (draw(*source) * 255).round() / 255
    model, random = replace(model, scales=Scales(3, 8)), Random(seed)
    whole = upscale(model, picture, size, config).image[0]
    kind = LevelKind(8, False)
    top = random.choice([0, size[0] // 2, size[0] - 1])
    spread = Spread(
        Picture(source, size, config, kind, LevelKind(16, False)), model, lambda: picture.split(5, dim=2), 3, top
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
