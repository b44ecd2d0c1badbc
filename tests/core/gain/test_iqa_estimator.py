"""MMLE's teacher as an estimator at sampling time."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.gain.iqa import IqaEstimator
from adadiffsr_core.gain.mmle import metrics_to_quality
from adadiffsr_core.metrics.base import normalise_metrics
from adadiffsr_core.pipeline import sample_latent
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.settings import SamplingConfig
from adadiffsr_core.training.tasks.mmle import RatedWalks, fit_range
from adadiffsr_core.training.walks.targets import measure_targets
from tests.walked import BLUR, METRICS, NET, blur_rating


def test_the_iqa_estimator_is_equation_2_on_decoded_pictures(model):
    config = replace(NET, worst=(5.0, 100.0), best=(30.0, 0.0))
    denoised, lq_latent = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    estimator = IqaEstimator(model.decode, list(METRICS.values()), config)
    quality = estimator.quality(denoised, lq_latent, torch.ones(3))
    image, reference = model.decode(denoised), model.decode(lq_latent)
    full = (-10 * (image - reference).square().mean(dim=(1, 2, 3)).log10() - 5) / 25
    none = (100 - blur_rating(image, None)) / 100
    torch.testing.assert_close(quality, torch.stack([full, none], dim=1).clamp(0, 1))
    assert (quality.dtype, quality.shape) == (torch.float32, (3, 2))


def test_it_rates_as_the_targets_do(walks, model):
    """The regressor's teacher in training is the teacher at sampling time."""
    values = torch.from_numpy(measure_targets(walks, METRICS, "lq", model.decode))
    config = fit_range(NET, RatedWalks(walks, values.numpy()))
    estimator = IqaEstimator(model.decode, list(METRICS.values()), config)
    denoised, lq_latent = (
        torch.from_numpy(part.astype(np.float32)) for part in (walks.denoised[:, 4], walks.lq_latent)
    )
    expected = metrics_to_quality(normalise_metrics(values[:, 4], config.worst, config.best), config)
    quality = estimator.quality(denoised, lq_latent, torch.ones(5))
    torch.testing.assert_close(quality, expected, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_rated_has_no_gain_and_other_metrics_are_refused(model):
    undefined = replace(BLUR, compute=lambda image, reference: torch.full((len(image),), math.nan))
    estimator = IqaEstimator(model.decode, [METRICS["psnr"], undefined], NET)
    latents = torch.randn(2, 2, 4, 8, 8)
    assert (estimator.quality(*latents, torch.ones(2))[:, 1] == 0).all()
    with pytest.raises(ConfigError, match="must be psnr, brisque"):
        IqaEstimator(model.decode, [BLUR, METRICS["psnr"]], NET)


def test_it_drives_the_sampler(model):
    estimator = IqaEstimator(model.decode, list(METRICS.values()), NET)
    config = SamplingConfig(
        steps=8, solver="euler", tile_size=64, overlap=16, tile_fit=False, dtss=DtssConfig(gain_threshold=1e-5)
    )
    lq_latent = torch.randn(1, 4, 8, 14, generator=torch.Generator().manual_seed(0))
    _, report, _ = sample_latent(replace(model, estimator=estimator), lq_latent, config)
    gains = [step.nr_gain for tile in report.tiles for step in tile.steps]
    assert max(map(abs, gains)) > 0
