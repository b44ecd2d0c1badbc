"""From photo to photo on a whole tiny model: any size, same seed, and refusals in words."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import adadiffsr_core
from adadiffsr_core import pipeline
from adadiffsr_core.errors import CheckpointError, ConfigError, ShapeError
from adadiffsr_core.gain.mmle import MmleEstimator
from adadiffsr_core.gain.statistics import LatentStatistics
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import Model, embedded_weights, load_model
from adadiffsr_core.nets.mmle import Mmle
from adadiffsr_core.nets.pfj import Pfj
from adadiffsr_core.photo.enlarging import enlarge
from adadiffsr_core.photo.scales import Scales
from adadiffsr_core.pipeline import sample_latent, upscale
from adadiffsr_core.sampling import run
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.config import LatentSizes
from adadiffsr_core.sampling.noise import field_noise
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.sampling.schedule import Schedule
from adadiffsr_core.sampling.tilewise import sample_tiles
from adadiffsr_core.settings import PRESETS, SamplingConfig
from tests.oracles import TINY_AUTOENCODER, TINY_MMLE, TINY_PFJ, TINY_UNET, randomise, tiny_model

SMALL = SamplingConfig(steps=6, solver="euler", tile_size=64, overlap=16, dtss=DtssConfig(nr_from=0.3))


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


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


def test_a_mask_of_zeros_keeps_the_latent_to_the_bit(model):
    lq_latent = torch.randn(2, 4, 11, 19, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 11, 19)
    latent, report, _ = sample_latent(model, lq_latent, SMALL, mask=mask)
    assert torch.equal(latent, lq_latent)
    assert report.nfe == 0
    mask[..., :2, :2] = 1.0
    latent, report, grid = sample_latent(model, lq_latent, SMALL, mask=mask)
    untouched = (mask == 0).expand_as(latent)
    assert torch.equal(latent[untouched], lq_latent[untouched])
    assert (latent[~untouched] != lq_latent[~untouched]).float().mean() > 0.9
    assert [tile.nfe for tile in report.tiles] == ([SMALL.steps] + [0] * (grid.count - 1)) * 2


def test_a_mask_of_any_size_reaches_the_tiles(model):
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :20, :20] = 1.0
    result = upscale(model, draw(1, 3, 32, 32), (128, 128), SMALL, mask=mask)
    asked = [tile.top * 8 < 40 and tile.left * 8 < 40 for tile in result.report.tiles]
    assert [tile.nfe > 0 for tile in result.report.tiles] == asked
    assert 0 < sum(asked) < len(asked)


# Black halves, of a mask as large as the input, and of one in levels of its own.
HALVES = [torch.cat([torch.zeros(1, 1, rows, 5), torch.ones(1, 1, rows, 5)], dim=3) for rows in (1, 64)]


@pytest.mark.parametrize("colour", ["wavelet", "adain", "none"])
@pytest.mark.parametrize("mask", HALVES, ids=["small", "large"])
@pytest.mark.parametrize(("size", "scales"), [((30, 30), (1, 8)), ((30, 30), (3, 8)), ((60, 120), (1, 8))])
def test_black_is_the_enlarged_input_to_the_bit(size, scales, mask, colour, model):
    image = draw(1, 3, 30, 30)
    model = replace(model, scales=Scales(*scales))
    found = upscale(model, image, size, replace(SMALL, colour=colour), mask=mask).image
    half = size[1] // 2
    assert torch.equal(found[..., :half], enlarge(image, size)[..., :half])
    assert (found - enlarge(image, size))[..., half + 8 :].abs().mean() > 1e-3


def test_all_black_touches_no_network(model):
    def fail(*args):
        raise AssertionError("asked for nothing")

    idle = replace(model)
    object.__setattr__(idle, "encode", fail)
    object.__setattr__(idle, "decode", fail)
    image = draw(2, 3, 30, 20)
    result = upscale(idle, image, (120, 80), SMALL, mask=torch.zeros(1, 1, 3, 3))
    assert torch.equal(result.image, enlarge(image, (120, 80)))
    assert {tile.outcome for tile in result.report.tiles} == {"untouched"}
    assert len(result.report.tiles) == 2 * result.grid.count


@pytest.mark.parametrize("merge", ["final", "every_step"])
def test_what_is_not_encoded_is_missed_by_nobody(merge, model, monkeypatch):
    """Only a corner is asked for: it is the same as if all latents were there."""
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., 30:, 30:] = 1.0
    config, image = replace(SMALL, merge=merge), draw(1, 3, 40, 40)
    found = upscale(model, image, (320, 320), config, mask=mask).image
    monkeypatch.setattr(pipeline, "find_needed", lambda *args: None)
    everything = upscale(model, image, (320, 320), config, mask=mask).image
    torch.testing.assert_close(found, everything, rtol=0, atol=1e-5)


def test_an_unknown_scale_is_worked_at_a_known_one_and_reduced(model):
    image, strict = draw(1, 3, 20, 30), replace(model, scales=Scales())
    result = upscale(strict, image, (20, 45), SMALL)
    whole = upscale(strict, image, (80, 120), SMALL)
    assert (result.work_size, result.latent_px) == ((80, 120), (2.0, 3.0))
    assert "worked at 120 x 80 px" in result.note
    assert (whole.work_size, whole.note) == ((80, 120), "")
    torch.testing.assert_close(result.image, F.interpolate(whole.image, (20, 45), mode="area"))


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


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that reach the sampler, which runs them all the same."""
    seen = []

    def sample(job, sink):
        seen.append(job)
        return sample_tiles(job, sink)

    monkeypatch.setattr(run, "sample_tiles", sample)
    return seen


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
    "mask",
    [torch.full((1, 1, 4, 4), torch.nan), torch.full((1, 1, 4, 4), 2.0), torch.zeros(1, 3, 4, 4), torch.zeros(4, 4)],
)
def test_masks_that_make_no_sense_are_refused(mask, model):
    with pytest.raises(ShapeError, match="compute mask"):
        upscale(model, draw(1, 3, 8, 8), (32, 32), SMALL, mask=mask)


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


# --- The two small networks.

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


# --- Files.


def save_model(path, model, **changes):
    tensors = {f"model.diffusion_model.{key}": value for key, value in model.unet.state_dict().items()}
    tensors |= {f"first_stage_model.{key}": value for key, value in model.autoencoder.state_dict().items()}
    config = {
        "unet": TINY_UNET.to_dict(),
        "autoencoder": TINY_AUTOENCODER.to_dict(),
        "schedule": {"prediction": model.schedule.prediction},
    } | changes
    config = {name: section for name, section in config.items() if section is not None}
    save_checkpoint(Checkpoint("ldm", config, tensors), path, torch.float32)
    return path


def test_a_saved_model_gives_the_same_picture(model, tmp_path):
    loaded = load_model(save_model(tmp_path / "model.safetensors", model))
    assert (loaded.schedule, loaded.unet.config) == (model.schedule, TINY_UNET)
    image = draw(1, 3, 20, 20)
    expected = upscale(model, image, (80, 80), SMALL).image
    torch.testing.assert_close(upscale(loaded, image, (80, 80), SMALL).image, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("section", "scales"), [(None, Scales(3, 8)), ([1, 4], Scales(1, 4)), ([2.5, 6], Scales(2.5, 6))]
)
def test_a_file_says_what_scales_it_knows(section, scales, model, tmp_path):
    assert load_model(save_model(tmp_path / "model.safetensors", model, scales=section)).scales == scales


@pytest.mark.parametrize("section", [[4], [4, 1], [0, 4], [1, 2, 3], ["x", 4], 4, {"least": 1}, [None, 4], "14"])
def test_scales_that_are_no_range_are_refused(section, model, tmp_path):
    with pytest.raises(CheckpointError, match="scales"):
        load_model(save_model(tmp_path / "model.safetensors", model, scales=section))


def test_half_precision_networks_give_nearly_the_same(model, tmp_path):
    coarse = load_model(save_model(tmp_path / "model.safetensors", model), dtype=torch.bfloat16)
    assert coarse.dtype == torch.bfloat16
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    exact, near = (sample_latent(net, latent, SMALL.uniform(1))[0] for net in (model, coarse))
    assert near.dtype == torch.float32
    assert (near - exact).square().mean().sqrt() < 0.1 * exact.std()


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": {"prediction": "x0"}},
        {"schedule": {"betas": "linear"}},
        {"schedule": [1]},
        {"schedule": None},
        {"unet": {"attention": True}},
        {"unet": {"model_channels": 33}},
        {"unet": {"model_channels": 64}},
        {"unet": 3},
        {"autoencoder": {"channels": [8]}},
        {"autoencoder": None},
    ],
    ids=str,
)
def test_files_with_odd_configs_are_refused(changes, model, tmp_path):
    path = save_model(tmp_path / "model.safetensors", model, **changes)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_weights_are_found_whatever_the_package_is_called():
    """Inside ComfyUI the core is a part of another package."""
    root = Path(adadiffsr_core.__file__).parent
    spec = importlib.util.spec_from_file_location("pack_core", root / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    sys.modules["pack_core"] = package
    try:
        spec.loader.exec_module(package)
        copy = importlib.import_module("pack_core.models.model")
        assert copy.load_model is not load_model
        assert copy.embedded_weights() == embedded_weights() == root / "weights" / "embedded.safetensors"
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "pack_core"]:
            del sys.modules[name]


@pytest.mark.skipif(not embedded_weights().is_file(), reason="the embedded model has not been trained yet")
def test_the_embedded_model_loads():
    checkpoint = load_checkpoint(embedded_weights())
    assert checkpoint.kind in ("ldm", "bundle")
    model = load_model()
    assert model.autoencoder.config.factor == 8
    assert embedded_weights().stat().st_size <= 40e6
