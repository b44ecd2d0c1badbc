"""Walks down the schedule, the targets measured on them, and the model that walked."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.errors import ConfigError, DenoiserError
from adadiffsr_core.models.unet_denoiser import UNetDenoiser
from adadiffsr_core.sampling.codebook import build_codebook
from adadiffsr_core.sampling.noise import FIELD_INDEX, StepNoise
from adadiffsr_core.sampling.tiles import build_grid
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.walks.targets import measure_targets
from adadiffsr_core.training.walks.walked_model import OwnModel, claim_model, probe_model
from adadiffsr_core.training.walks.walks import WalkConfig, build_walks, draw_path, walk_tiles
from tests import oracles
from tests.walked import METRICS, STEPS, WALK

# ---- walks


@given(st.data())
def test_a_path_goes_from_the_noisiest_level_to_the_end(data):
    largest = data.draw(st.integers(1, 5))
    visits = data.draw(st.integers(1, 30))
    steps = data.draw(st.integers(visits, visits * largest))
    path = draw_path(np.random.default_rng(data.draw(st.integers(0, 99))), steps, visits, largest)
    assert (path[0], path[-1], len(path)) == (0, steps, visits + 1)
    assert set(np.diff(path)) <= set(range(1, largest + 1))


def test_every_interval_occurs_at_every_visit():
    rng = np.random.default_rng(0)
    intervals = np.stack([np.diff(draw_path(rng, 24, 10, 4)) for _ in range(800)])
    for place in range(10):
        counts = Counter(intervals[:, place].tolist())
        assert all(0.1 < counts[interval] / 800 < 0.45 for interval in (1, 2, 3, 4)), counts


def test_a_walk_is_the_reference_sampler_on_the_levels_it_visits(walks, model):
    """DPM-Solver++(2M) written plainly, on the sub-schedule."""
    sigmas = model.schedule.build_sigmas(STEPS)
    grid = build_grid(8, 8, 8, 0)
    noise = StepNoise(3, grid, 4)
    for walk in (0, 3):
        lq_latent = torch.from_numpy(walks.lq_latent[[walk]].astype(np.float32))
        levels = [*walks.sigma[walk].tolist(), 0.0]
        denoiser, seen = UNetDenoiser(model.unet, model.schedule, lq_latent, grid), []

        def denoise(x, sigma, denoiser=denoiser, seen=seen):
            with torch.no_grad():
                seen.append(denoiser(x, torch.tensor([sigma]), [0], None))
            return seen[-1]

        assert torch.equal(sigmas[torch.from_numpy(walks.index[walk].copy())], torch.tensor(levels[:-1]))
        x = model.schedule.start(lq_latent, noise([walk], torch.tensor([FIELD_INDEX])), levels[0]).double()
        oracles.euler(denoise, x, levels, lambda step: None)
        stored = torch.from_numpy(walks.denoised[walk].astype(np.float32))
        torch.testing.assert_close(stored, torch.cat(seen).float(), rtol=2e-3, atol=2e-3)


def test_walks_differ_in_path_noise_and_picture(walks):
    assert walks.count == 5
    assert len({tuple(path) for path in walks.index.tolist()}) > 2
    assert len({walk.tobytes() for walk in walks.denoised}) == 5
    assert walks.denoised.shape == (5, 8, 4, 8, 8)
    assert (walks.gt.shape, walks.gt.dtype) == ((5, 3, 64, 64), np.uint8)


def test_a_stochastic_solver_gets_noise_keyed_by_the_walk(model):
    codebook, grid = build_codebook(model.schedule.build_sigmas(4), "euler_ancestral"), build_grid(8, 8, 8, 0)
    lq_latent, x = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    paths, noise = torch.tensor([[0, 1, 3, 4], [0, 2, 3, 4]]), StepNoise(1, grid, 4)

    def walk(rows):
        denoise = UNetDenoiser(model.unet, model.schedule, lq_latent[rows], grid)
        return walk_tiles(denoise, codebook, x[rows], paths[rows], [row + 7 for row in rows], noise)

    with torch.no_grad():
        together, alone = walk([0, 1]), walk([1])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)


def test_a_stopped_cache_of_walks_equals_one_made_at_a_stretch(tmp_path, photos, model, walks, monkeypatch):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5)
    asked, draw = [], PairDataset.__getitem__

    def dying(self, index):
        asked.append(index)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return draw(self, index)

    monkeypatch.setattr(PairDataset, "__getitem__", dying)
    with pytest.raises(KeyboardInterrupt):
        build_walks(tmp_path, dataset, OwnModel(model), WALK, seed=3)
    build_walks(tmp_path, dataset, OwnModel(model), WALK, seed=3)
    assert asked == [0, 1, 2, 3, 2, 3, 4]
    for path in walks.folder.glob("*.npy"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"visits": 3}, "between 4 and 24"), ({"visits": 25}, "between 4 and 24"), ({"preset": "fast"}, "unknown"),
     ({"batch_size": 0}, "batch_size"), ({"preset": "paper"}, "between 50 and 200")],
)  # fmt: skip
def test_walks_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        WalkConfig(**settings)


def test_a_walk_may_jump_as_far_as_a_tiles_first_jump():
    """So that estimates after it, too, are among those that a regressor learns from."""
    dtss = PRESETS["everyday"].dtss
    assert WALK.largest_interval == max(dtss.intervals[-1], round(dtss.first_jump * STEPS)) == 6
    assert WalkConfig(preset="paper", visits=60).largest_interval == PRESETS["paper"].dtss.intervals[-1]
    rng = np.random.default_rng(0)
    longest = [np.diff(draw_path(rng, STEPS, WALK.visits, WALK.largest_interval)).max() for _ in range(800)]
    assert max(longest) == 6


# ---- targets


def decode_by_hand(model, latents):
    return model.decode(torch.from_numpy(np.asarray(latents, dtype=np.float32)))


@pytest.mark.parametrize("reference", ["lq", "gt"])
def test_targets_are_the_metrics_of_decoded_estimates(walks, model, reference):
    values = measure_targets(walks, METRICS, reference, model.decode)
    assert values.shape == (5, 8, 2)
    for walk, visit in ((0, 0), (2, 5), (4, 7)):
        image = decode_by_hand(model, walks.denoised[walk, [visit]])
        truth = decode_by_hand(model, walks.lq_latent[[walk]])
        if reference == "gt":
            truth = torch.from_numpy(walks.gt[[walk]]).float() / 255
        by_hand = [float(metric(image, truth)) for metric in METRICS.values()]
        np.testing.assert_allclose(values[walk, visit], by_hand, rtol=1e-4)
    assert np.array_equal(values, measure_targets(walks, METRICS, reference, None))  # all from the disk


def counting(metric, seen):
    def compute(image, reference):
        seen.append(metric.info.name)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return metric.compute(image, reference)

    return replace(metric, compute=compute)


def test_measuring_goes_on_where_it_stopped_and_metrics_can_be_added(tmp_path, photos, model, walks):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5)
    again, seen = build_walks(tmp_path, dataset, OwnModel(model), WALK, seed=3), []
    metrics = {name: counting(metric, seen) for name, metric in METRICS.items()}
    only_psnr = {"psnr": metrics["psnr"]}
    with pytest.raises(KeyboardInterrupt):
        measure_targets(again, only_psnr, "lq", model.decode)
    values = measure_targets(again, metrics, "lq", model.decode)
    assert seen == ["psnr"] * 5 + ["brisque"] * 4 + ["psnr", "brisque"]
    assert np.array_equal(values, measure_targets(walks, METRICS, "lq", model.decode))
    measure_targets(again, metrics, "gt", model.decode)
    assert Counter(seen) == {"psnr": 11, "brisque": 5}  # no-reference values do not depend on the reference


def test_one_truth_for_many_pictures_is_looked_at_once():
    pytest.importorskip("stlpips_pytorch", reason="the extra `iqa` is not installed")
    from adadiffsr_core.metrics.st_lpips import StLpips

    metric = StLpips()
    image, truth = torch.rand(3, 3, 48, 48), torch.rand(1, 3, 48, 48)
    seen, features = [], metric.features
    metric.features = lambda picture: (seen.append(len(picture)), features(picture))[1]
    shared = metric(image, truth.expand(3, -1, -1, -1))
    assert seen == [3, 1]
    torch.testing.assert_close(shared, metric(image, truth.repeat(3, 1, 1, 1)))


# ---- making them


def test_progress_counts_every_walk_once_and_first_what_was_there(tmp_path, photos, model, walks):
    dataset, told = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5), []

    def stop(more):
        told.append(more)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_walks(tmp_path, dataset, OwnModel(model), WALK, 3, stop)
    assert told == [0, 2, 2]
    cache = build_walks(tmp_path, dataset, OwnModel(model), WALK, 3, told.append)
    assert told[3:] == [4, 1]  # what was whole when it was stopped is not made again
    told.clear()
    with pytest.raises(KeyboardInterrupt):
        measure_targets(cache, METRICS, "lq", model.decode, stop)
    measure_targets(cache, METRICS, "lq", model.decode, told.append)
    assert told == [0, 1, 1, 2, 1, 1, 1]
    for path in walks.folder.glob("*.npy"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_network_that_breaks_is_named_and_leaves_the_cache_whole(tmp_path, photos, model):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=2)
    broken = oracles.tiny_model()
    next(broken.unet.parameters()).data.fill_(math.nan)
    with pytest.raises(DenoiserError, match="full precision"):
        build_walks(tmp_path, dataset, OwnModel(broken), WALK, 3)
    with pytest.raises(ConfigError, match="full precision"):
        probe_model(OwnModel(broken), WALK.sampling, 64)
    assert build_walks(tmp_path, dataset, OwnModel(model), WALK, 3).count == 2


# ---- which model it was


def test_a_model_is_told_by_what_it_does(tmp_path, model):
    probe = probe_model(OwnModel(model), WALK.sampling, 64)
    assert probe == probe_model(OwnModel(oracles.tiny_model()), WALK.sampling, 64)
    claim_model(tmp_path, probe)
    largest = max(map(abs, probe))
    claim_model(tmp_path, [value + 0.009 * largest for value in probe])  # as other precisions may differ
    other = oracles.tiny_model()
    for parameter in other.unet.parameters():
        parameter.data *= 1.1
    for different in (probe_model(OwnModel(other), WALK.sampling, 64), probe[:-1]):
        with pytest.raises(ConfigError, match="another model, VAE or prompt"):
            claim_model(tmp_path, different)


def test_latents_of_another_autoencoder_are_refused(model):
    class Mismatched(OwnModel):
        def encode(self, image):
            return super().encode(image)[:, :, ::2]

    with pytest.raises(ConfigError, match=r"latents of \[4, 4, 8\] from 64 px where the model works on \[4, 8, 8\]"):
        probe_model(Mismatched(model), WALK.sampling, 64)
