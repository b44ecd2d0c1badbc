"""Large pictures are evaluated by full batches alone, so that their bits do not depend on which tiles share a call."""

from dataclasses import replace

import pytest
import torch

from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.pipeline import start_run
from adadiffsr_core.sampling import run as run_module
from adadiffsr_core.sampling.noise import field_noise
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.run import run
from adadiffsr_core.settings import SamplingConfig
from tests.oracles import tiny_model

CONFIG = SamplingConfig(
    steps=8, solver="euler", tile_size=64, overlap=16, tile_batch=5, dtss=DtssConfig(nr_from=0.3, gain_threshold=0.01)
)


class Watched:
    """A denoiser, and the size of each call."""

    def __init__(self, denoiser):
        self.denoiser, self.sizes = denoiser, []
        self.boundaries = denoiser.boundaries

    def __call__(self, x, sigma, tiles, gain):
        assert len(x) == len(sigma) == len(tiles)
        self.sizes.append(len(x))
        return self.denoiser(x, sigma, tiles, gain)


def sample(side, **changes):
    model, config = replace(tiny_model(), estimator=LatentStatistics()), replace(CONFIG, **changes)
    latent = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0))
    grid = config.plan_tiles(side, side, model.sizes)
    with torch.inference_mode():
        start = start_run(model, latent, field_noise(latent.shape, 3), grid, config)
        start = replace(start, denoiser=Watched(start.denoiser))
        return run(start, config), start.denoiser.sizes


@pytest.mark.parametrize("merge", ["final", "every_step"])
def test_a_large_picture_is_called_by_full_batches_alone(merge):
    (latent, report, grid), sizes = sample(35, merge=merge)
    assert grid.count > run_module.FULL_BATCHES * 5
    assert set(sizes) == {5}
    assert sum(report.calls) == report.nfe < 5 * len(sizes)  # copies are no evaluations
    assert latent.isfinite().all()


def test_a_small_one_is_spared_the_copies(monkeypatch):
    (small, report, grid), sizes = sample(20)
    assert grid.count == 9 <= run_module.FULL_BATCHES * 5
    assert sum(sizes) == report.nfe
    assert sizes[0] == 5 > min(sizes)
    monkeypatch.setattr(run_module, "FULL_BATCHES", 0)
    filled, _ = sample(20)
    torch.testing.assert_close(filled.latent, small, rtol=0, atol=1e-4)
    assert [tile.nfe for tile in filled.report.tiles] == [tile.nfe for tile in report.tiles]
