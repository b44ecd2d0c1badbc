"""The two small networks in a whole tiny model: nothing until they are trained, then told the gain."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.pipeline import sample_latent, upscale
from tests.core.restored import SMALL, draw
from tests.oracles import TINY_MMLE, TINY_PFJ, randomise

BOTH_MERGES = pytest.mark.parametrize("merge", ["final", "every_step"])


def draw_latent(side=20):
    return torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(3))


def sample(model, config=SMALL, latent=None, **more):
    return sample_latent(model, draw_latent() if latent is None else latent, config, **more)


@BOTH_MERGES
@pytest.mark.parametrize("solver", ["dpmpp_2m", "ddpm"])
def test_an_untrained_pfj_and_one_of_strength_0_change_no_bit_of_a_picture(solver, merge, model):
    config = replace(SMALL, solver=solver, merge=merge)
    plain, report, _ = sample(model, config)
    untrained = sample(replace(model, pfj=Pfj(TINY_PFJ)), config)
    trained = replace(model, pfj=randomise(Pfj(TINY_PFJ)))
    silent = sample(trained, replace(config, pfj_strength=0.0))
    for latent, other, _ in (untrained, silent):
        assert torch.equal(latent, plain)
        assert other.tiles == report.tiles
    assert (sample(trained, config)[0] - plain).abs().max() > 1e-2


def test_a_stronger_pfj_changes_more(model):
    model = replace(model, pfj=randomise(Pfj(TINY_PFJ)))
    uniform = SMALL.uniform(1)
    weak, *others = (sample(model, replace(uniform, pfj_strength=dial))[0] for dial in (0.0, 0.1, 0.5))
    near, far = ((other - weak).square().mean() for other in others)
    assert 0 < near < far


class Watched(Pfj):
    """Writes down the gains it is given and how many tiles' features it computes."""

    def __init__(self, config):
        super().__init__(config)
        self.gains, self.seen = [], 0

    def features(self, lq_latent):
        self.seen += len(lq_latent)
        return super().features(lq_latent)

    def modulate(self, features, gain, strength=1.0):
        self.gains += gain.tolist()
        return super().modulate(features, gain, strength)


def test_pfj_is_told_the_gain_of_the_evaluation_before(model):
    pfj = Watched(TINY_PFJ)
    _, report, _ = sample(replace(model, pfj=pfj), replace(SMALL, steps=12), latent=draw_latent(8))
    (tile,) = report.tiles
    gains = [[step.fr_gain, step.nr_gain] for step in tile.steps]
    assert pfj.gains == [[0.0, 0.0], *gains[:-1]]
    assert any(fr and nr for fr, nr in gains[:-1])


@BOTH_MERGES
def test_features_are_computed_once_per_tile(merge, model):
    pfj = Watched(TINY_PFJ)
    _, report, grid = sample(replace(model, pfj=pfj), replace(SMALL, merge=merge, tile_batch=3))
    assert pfj.seen == grid.count == 9
    assert len(pfj.gains) == report.nfe > 9


@BOTH_MERGES
def test_an_untrained_mmle_drives_a_whole_run(merge, model):
    model = replace(model, mmle=Mmle(TINY_MMLE).eval(), pfj=randomise(Pfj(TINY_PFJ)))
    result = upscale(model, draw(1, 3, 20, 20), (80, 80), replace(SMALL, steps=12, merge=merge))
    assert result.image.isfinite().all()
    steps = [step for tile in result.report.tiles for step in tile.steps]
    assert any(step.fr_gain for step in steps)
    assert any(step.nr_gain for step in steps)
    assert all(tile.steps for tile in result.report.tiles)


def test_gain_is_estimated_by_what_is_at_hand(model, jobs):
    mmle = Mmle(TINY_MMLE).eval()
    sample(model)
    sample(replace(model, mmle=mmle))
    given = LatentStatistics(peak=4.0)
    sample(replace(model, mmle=mmle, estimator=given))
    training_free, regressor, asked_for = (job.estimator for job in jobs)
    assert isinstance(training_free, LatentStatistics)
    assert isinstance(regressor, MmleEstimator)
    assert regressor.mmle is mmle
    assert asked_for is given
