"""Difficulty: what it measures, that the regression finds what is there, and that the metrics' guesses stay."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.walks.difficulty import EVALUATIONS, Ends, fit_difficulty, guess_difficulty, walk_ends
from adadiffsr_core.training.walks.walked_model import OwnModel
from tests.oracles import randomise
from tests.walked import NET

EVERYDAY = PRESETS["everyday"]


@pytest.fixture(scope="module")
def mmle():
    return randomise(Mmle(NET)).eval()


@pytest.fixture(scope="module")
def pairs(photos):
    return PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=4)


@pytest.fixture(scope="module")
def ends(model, mmle, pairs):
    return walk_ends(OwnModel(model), mmle, pairs, EVERYDAY, [range(2), range(2, 4)])


def test_it_is_the_error_of_seven_evaluations_beside_all_of_them(model, mmle, pairs, ends):
    """By the sampler itself, on the noise of walk 0, which is that of a canvas of one tile."""
    lq_latent = model.encode(pairs[0][1][None].float() / 255)
    bare = replace(model, mmle=None)  # which takes every tile for typical: a budget is then a schedule
    seven = replace(EVERYDAY, dtss=replace(EVERYDAY.dtss, rule="bounded", budget=float(EVALUATIONS)))
    runs = [sample_latent(bare, lq_latent, config) for config in (EVERYDAY.uniform(1), seven)]
    assert [run.report.nfe for run in runs] == [EVERYDAY.steps, EVALUATIONS]
    assert runs[0].grid.count == build_grid(8, 8, 8, 0).count
    pictures = [model.decode(run.latent).clamp(0, 1) for run in runs]
    error = (pictures[0] - pictures[1]).square().mean()
    # The field of noise is another than that of walks; the size of the error is that of the tile.
    assert abs(float(error.log10() - ends.difficulty[0])) < 1


def test_walks_are_the_same_however_they_are_batched(model, mmle, pairs, ends):
    again = walk_ends(OwnModel(model), mmle, pairs, EVERYDAY, [[3], [0, 1, 2]])
    torch.testing.assert_close(again.difficulty, ends.difficulty[[3, 0, 1, 2]], rtol=1e-3, atol=1e-3)
    assert ends.seen.shape == (4, EVERYDAY.steps + EVALUATIONS, NET.hidden)


def test_the_regression_finds_what_is_there():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(400, 3, NET.hidden, generator=generator)
    weight = torch.randn(NET.hidden, generator=generator)
    difficulty = (seen @ weight).mean(dim=1) / 3 - 4.5
    taught = fit_difficulty(Mmle(NET), Ends(seen, difficulty), penalty=1e-6)
    guess = guess_difficulty(taught, Ends(seen, difficulty)).mean(dim=1)
    assert torch.corrcoef(torch.stack([guess, difficulty]))[0, 1] > 0.99
    shrunk = guess_difficulty(fit_difficulty(Mmle(NET), Ends(seen, difficulty), penalty=100.0), Ends(seen, difficulty))
    assert shrunk.std() < 0.1 * guess.std()
    assert abs(float(shrunk.mean() - difficulty.mean())) < 0.01


def test_what_it_says_of_metrics_stays(mmle, ends):
    taught = fit_difficulty(mmle, ends)
    latents, sigma = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(3)
    before, after = (MmleEstimator(net).quality(*latents, sigma) for net in (mmle, taught))
    assert (before.shape, after.shape) == ((3, 2), (3, 3))
    assert torch.equal(after[:, :2], before)


def test_too_little_to_learn_from_is_refused(mmle, ends):
    with pytest.raises(ConfigError, match="at least two walks, got 1"):
        fit_difficulty(mmle, Ends(ends.seen[:1], ends.difficulty[:1]))
    with pytest.raises(ConfigError, match="tells no difficulty"):
        guess_difficulty(mmle, ends)
