"""Difficulty: what it measures, that the regression finds what is there, and that the metrics' guesses stay."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.data.dataset import PairConfig
from adadiffsr_core.data.tiles import TileDataset
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj, PfjConfig
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling.bounded import deviation_of
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.walks.difficulty import (
    EVALUATIONS,
    Ends,
    fit_difficulty,
    guess_difficulty,
    walk_ends,
)
from adadiffsr_core.training.walks.walked_model import OwnModel
from tests.oracles import randomise
from tests.walked import NET

EVERYDAY = PRESETS["everyday"]


@pytest.fixture(scope="module")
def mmle():
    return randomise(Mmle(NET)).eval()


@pytest.fixture(scope="module")
def tiles(photos):
    return TileDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=4)


@pytest.fixture(scope="module")
def rated(model, mmle):
    return replace(model, mmle=mmle)


@pytest.fixture(scope="module")
def ends(rated, tiles):
    return walk_ends(OwnModel(rated), rated.mmle, tiles, EVERYDAY)


def test_it_is_the_error_of_seven_evaluations_beside_all_of_them(rated, tiles, ends):
    """By the dial that a user has, on the same noise."""
    lq_latent = rated.encode(torch.stack([tiles[index] for index in range(len(tiles))]).float() / 255)
    config = replace(EVERYDAY, tile_size=64, overlap=0, tile_fit=False)
    seven = replace(config, dtss=replace(config.dtss, budget=float(EVALUATIONS)))
    runs = [sample_latent(rated, lq_latent, way) for way in (config.every_step(), seven)]
    assert [run.report.mean_nfe for run in runs] == [EVERYDAY.steps, EVALUATIONS]
    pictures = [rated.decode(run.latent).clamp(0, 1) for run in runs]
    errors = (pictures[0] - pictures[1]).square().mean(dim=(1, 2, 3))
    strayed = deviation_of(torch.tensor(EVALUATIONS), EVERYDAY.steps)
    torch.testing.assert_close(ends.difficulty, (errors / strayed).log10().float(), rtol=1e-4, atol=1e-4)


def test_what_was_seen_is_what_the_regressor_sees_at_every_visit(rated, ends):
    assert ends.seen.shape == (4, EVERYDAY.steps + EVALUATIONS, NET.hidden)
    first_of_all, first_of_seven = ends.seen[:, 0], ends.seen[:, EVERYDAY.steps]
    torch.testing.assert_close(first_of_all, first_of_seven)  # both begin at the same noise
    assert not torch.allclose(ends.seen[:, 1], ends.seen[:, EVERYDAY.steps + 1])


def test_injection_is_as_strong_as_where_a_picture_is_made(model, tiles):
    """Nothing of it is as if there were none, half of it neither that nor all."""
    injecting = replace(model, pfj=randomise(Pfj(PfjConfig(latent_channels=4, channels=model.unet.config.widths))))
    codebook = OwnModel(model).build_codebook(EVERYDAY)
    lq_latent = model.encode(tiles[0][None].float() / 255)
    noise = torch.randn(lq_latent.shape, generator=torch.Generator().manual_seed(0))

    def estimate(walked):
        sigma = codebook.sigmas[:1]
        return walked.visit(codebook, lq_latent, noise, lambda denoise, x: denoise(x, sigma, [0], torch.ones(1, 2)))

    none, half, whole = (estimate(OwnModel(injecting, strength)) for strength in (0.0, 0.5, 1.0))
    assert torch.equal(none, estimate(OwnModel(model)))
    assert torch.equal(half, estimate(OwnModel(injecting)))  # what the everyday preset has
    assert not torch.allclose(none, half)
    assert not torch.allclose(half, whole)


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
