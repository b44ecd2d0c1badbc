"""From photo to photo on a whole tiny model: any size, same seed, and refusals in words."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from adadiffsr_core.errors import ConfigError, ShapeError
from adadiffsr_core.photo import back_projection
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.pipeline import sample_latent, upscale
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.config import LatentSizes
from adadiffsr_core.sampling.noise import field_noise
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.settings import PRESETS, SamplingConfig
from tests.core.restored import SMALL, draw
from tests.oracles import TINY_UNET, tiny_model


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 1), (1, 1)),
        ((1, 1), (9, 7)),
        ((1, 23), (4, 92)),
        ((17, 1), (68, 4)),
        ((13, 31), (52, 124)),
        ((40, 40), (40, 40)),
        ((65, 33), (30, 41)),  # smaller one way, larger the other
    ],
)
def test_any_size_goes_to_any_size(shape, size, model):
    result = upscale(model, draw(1, 3, *shape), size, SMALL)
    assert result.image.shape == (1, 3, *size)
    assert result.image.dtype == torch.float32
    assert result.image.isfinite().all()
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.factor == 8
    assert result.grid.canvas == (-(-size[0] // 8), -(-size[1] // 8))
    assert len(result.report.tiles) == result.grid.count


@pytest.mark.parametrize("colour", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("merge", ["final", "every_step"])
def test_results_are_ordinary_tensors_within_0_and_1(merge, colour, model):
    image = draw(1, 3, 20, 20)
    result = upscale(model, image, (80, 80), replace(SMALL, merge=merge, colour=colour)).image
    assert result.min() >= 0
    assert result.max() <= 1
    assert result.mul_(0.5).max() <= 0.5  # not frozen by inference mode
    assert torch.equal(image, draw(1, 3, 20, 20))


@pytest.mark.parametrize("merge", ["final", "every_step"])
@pytest.mark.parametrize("solver", ["euler", "ddpm", "dpmpp_2m"])
def test_a_seed_is_a_picture(solver, merge, model):
    config = replace(SMALL, solver=solver, merge=merge)
    image = draw(1, 3, 24, 24)
    first = upscale(model, image, (96, 96), config).image
    assert torch.equal(first, upscale(model, image, (96, 96), config).image)
    assert (first - upscale(model, image, (96, 96), replace(config, seed=1)).image).abs().max() > 1e-3
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(first, upscale(model, image, (96, 96), config).image)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("merge", ["final", "every_step"])
@pytest.mark.parametrize("solver", ["euler", "ddpm"])
def test_the_batch_size_changes_no_picture(solver, merge, model):
    image = draw(1, 3, 40, 40)
    results = []
    for tile_batch in (1, 3, 8, 16):
        config = replace(SMALL, solver=solver, merge=merge, tile_batch=tile_batch)
        result = upscale(model, image, (160, 160), config)
        assert result.grid.count == 9
        results.append(result.image)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v", "flow"])
@pytest.mark.parametrize("merge", ["final", "every_step"])
def test_images_of_a_batch_are_restored_as_if_alone(merge, prediction):
    """Up to the noise, which the host too draws for the batch as a whole: the second image's is another."""
    model = tiny_model(Schedule(prediction))
    images = draw(2, 3, 20, 28)
    config = replace(SMALL, merge=merge)
    together = upscale(model, images, (80, 112), config)
    alone = upscale(model, images[:1], (80, 112), config)
    torch.testing.assert_close(together.image[:1], alone.image, rtol=0, atol=1e-4)
    other = upscale(model, torch.stack([images[0], 1 - images[1]]), (80, 112), config)
    torch.testing.assert_close(other.image[:1], alone.image, rtol=0, atol=1e-4)
    assert (together.image[1] - other.image[1]).abs().max() > 1e-2
    assert len(together.report.tiles) == 2 * len(alone.report.tiles)


def test_an_unknown_scale_is_worked_at_a_known_one_and_reduced(model):
    image, strict = draw(1, 3, 20, 30), replace(model, scales=Scales())
    result = upscale(strict, image, (20, 45), SMALL)
    whole = upscale(strict, image, (80, 120), SMALL)
    assert (result.work_size, result.latent_px) == ((80, 120), (2.0, 3.0))
    assert "worked at 120 x 80 px" in result.note
    assert (whole.work_size, whole.note) == ((80, 120), "")
    torch.testing.assert_close(result.image, F.interpolate(whole.image, (20, 45), mode="area"))


def test_below_its_scales_what_a_photograph_holds_is_kept_where_colours_are_matched(model, monkeypatch):
    monkeypatch.setattr(back_projection, "_ALIKE", (-0.6, 0.6))  # whatever a random network makes
    monkeypatch.setattr(back_projection, "_SHARPENED", (3.0, 0.1))
    image, strict = draw(1, 3, 20, 30), replace(model, scales=Scales())
    whole = upscale(strict, image, (80, 120), SMALL).image
    reduced = F.interpolate(whole, (40, 60), mode="area")
    kept = upscale(strict, image, (40, 60), SMALL).image
    assert torch.equal(kept, back_projection.back_project(whole, image, (40, 60)))
    assert not torch.equal(kept, reduced)
    plain = replace(SMALL, colour="none")
    as_made = F.interpolate(upscale(strict, image, (80, 120), plain).image, (40, 60), mode="area")
    assert torch.equal(upscale(strict, image, (40, 60), plain).image, as_made)
    known = upscale(replace(model, scales=Scales(4, 8)), image, (80, 120), SMALL).image
    assert torch.equal(known, whole)


def test_hidden_colours_change_no_pixel(model):
    image, alpha = draw(1, 3, 20, 20), torch.ones(1, 1, 20, 20)
    alpha[..., 5:15, 5:] = 0
    found = upscale(model, torch.cat([image, alpha], 1), (80, 80), SMALL).image
    other = upscale(model, torch.cat([torch.where(alpha > 0, image, 1 - image), alpha], 1), (80, 80), SMALL).image
    assert torch.equal(found, other)


def test_progress_is_told_after_every_call(model):
    seen = []
    result = upscale(model, draw(1, 3, 32, 32), (128, 128), replace(SMALL, tile_batch=2), on_step=seen.append)
    assert [progress.nfe for progress in seen] == torch.tensor(result.report.calls).cumsum(0).tolist()
    assert seen[-1].expected_nfe == seen[-1].nfe == result.report.nfe


def test_equal_intervals_cost_what_they_say(model):
    for interval in (1, 2, 4):
        report = upscale(model, draw(1, 3, 20, 20), (80, 80), SMALL.uniform(interval)).report
        assert report.mean_nfe == -(-6 // interval)


def test_every_setting_arrives(model, jobs):
    config = replace(SMALL, solver="ddim", eta=0.3, spacing="karras", denoise=0.5, seed=5, tile_batch=3)
    upscale(model, draw(1, 3, 8, 8), (64, 64), config)
    (job,) = jobs
    expected = build_codebook(model.schedule.build_sigmas(6, "karras", 0.5), "ddim", 0.3)
    assert torch.equal(job.codebook.sigmas, expected.sigmas)
    assert torch.equal(job.codebook.c_noise, expected.c_noise)
    assert (job.seed, job.tile_batch, job.dtss) == (5, 3, config.dtss)
    torch.testing.assert_close(job.timesteps, model.schedule.sigma_to_timestep(expected.sigmas[:-1]))
    assert job.codebook.is_stochastic
    start = model.schedule.start(job.lq_latent, field_noise((1, 4, 8, 8), 5), float(expected.sigmas[0]))
    assert torch.equal(job.x, start)


def test_sizes_between_latent_pixels_are_filled_with_the_edge(model, jobs):
    upscale(model, torch.full((1, 3, 5, 5), 0.8), (12, 20), SMALL)
    whole = model.encode(torch.full((1, 3, 16, 24), 0.8))
    torch.testing.assert_close(jobs[0].lq_latent[..., :2, :3], whole, rtol=0, atol=1e-5)


def test_low_denoise_keeps_more_of_the_input(model):
    lq_latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    distances = []
    for denoise in (0.02, 0.3, 1.0):
        config = replace(SMALL.uniform(1), denoise=denoise)
        distances.append(float((sample_latent(model, lq_latent, config)[0] - lq_latent).square().mean()))
    assert distances == sorted(distances)
    assert distances[0] < distances[-1] / 4


@pytest.mark.parametrize("stretch", [True, False])
def test_tiles_are_multiples_of_what_the_network_needs(stretch):
    for side in (3, 8, 9, 17, 40):
        grid = replace(SMALL, tile_fit=stretch).plan_tiles(side, side, LatentSizes(8, TINY_UNET.multiple, 64))
        assert grid.tile[0] % TINY_UNET.multiple == grid.tile[1] % TINY_UNET.multiple == 0
        assert grid.tile == (min(8, -(-side // 4) * 4),) * 2 or stretch


@pytest.mark.parametrize(
    ("image", "size", "error", "message"),
    [
        (draw(1, 3, 8, 8) * torch.nan, (16, 16), ShapeError, "NaN"),
        (draw(1, 3, 8, 8) / 0, (16, 16), ShapeError, "infinity"),
        (draw(3, 8, 8), (16, 16), ShapeError, "3 or 4,height,width"),
        (draw(1, 5, 8, 8), (16, 16), ShapeError, "3 or 4,height,width"),
        (draw(1, 3, 0, 8), (16, 16), ShapeError, "at least one pixel"),
        (draw(0, 3, 8, 8), (16, 16), ShapeError, "at least one pixel"),
        (draw(1, 3, 8, 8), (16, 0), ConfigError, "at least 1x1"),
    ],
)
def test_what_is_no_picture_is_refused(image, size, error, message, model):
    with pytest.raises(error, match=message):
        upscale(model, image, size, SMALL)


@pytest.mark.parametrize(
    "settings",
    [{"tile_batch": 0}, {"merge": "sometimes"}, {"colour": "sepia"}, {"pfj_strength": float("nan")}],
)
def test_impossible_settings_are_refused_at_once(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SamplingConfig(**settings)


@pytest.mark.parametrize("config", [SamplingConfig(), SMALL, *PRESETS.values()])
def test_configs_survive_json(config):
    assert SamplingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="sampler"):
        SamplingConfig.from_dict({"sampler": "euler"})
    with pytest.raises(ConfigError, match="tau"):
        SamplingConfig.from_dict({"dtss": {"tau": 1}})
