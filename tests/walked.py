"""Walks down the schedule at toy size, and metrics for them."""

import json

import numpy as np
import torch
from PIL import Image

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.gain.statistics import high_frequencies
from adadiffsr_core.metrics.base import CheckedMetric
from adadiffsr_core.metrics.registry import create_metric, metric_info
from adadiffsr_core.nets.mmle import MmleConfig
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.tasks.mmle import RatedWalks
from adadiffsr_core.training.walks.walked_model import OwnModel
from adadiffsr_core.training.walks.walks import WalkCache, WalkConfig, build_walks, draw_path

NET = MmleConfig(
    widths=(8, 8), hidden=8, fr_metrics=("psnr",), nr_metrics=("brisque",), fr_weights=(1.0,), nr_weights=(1.0,),
    worst=(0.0, 100.0), best=(50.0, 0.0),
)  # fmt: skip
WALK = WalkConfig(visits=8, batch_size=2)
STEPS = PRESETS["everyday"].steps


def blur_rating(image, reference):
    """A stand-in for a no-reference metric; what no test may take for a measurement."""
    return 100 - 1000 * high_frequencies(image).square().mean(dim=(1, 2, 3))


BLUR = CheckedMetric(metric_info("brisque"), blur_rating, 8, torch.device("cpu"))
METRICS = {"psnr": create_metric("psnr"), "brisque": BLUR}


def save_photos(folder, count=4, side=96):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side)).save(folder / f"photo{index}.png")
    return find_images([folder])


def make_walks(folder, photos, model):
    dataset = PairDataset(photos, PairConfig(size_px=64, min_scale=1.0), seed=3, length=5)
    return build_walks(folder, dataset, OwnModel(model), WALK, seed=3)


def made_up(folder, count, seed):
    """Walks whose metrics follow from their latents in a plain way."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    index = np.stack([draw_path(rng, STEPS, 8, 4)[:-1] for _ in range(count)])
    lq = rng.standard_normal((count, 4, 8, 8)) * rng.uniform(0.5, 1.5, (count, 1, 1, 1))
    away = rng.uniform(0.2, 1, (count, 1)) * index / STEPS + 0.1
    denoised = lq[:, None] + rng.standard_normal((count, 8, 4, 8, 8)) * away[..., None, None, None]
    arrays = {
        "denoised": denoised.astype(np.float16), "lq_latent": lq.astype(np.float16), "index": index,
        "gt": np.zeros((count, 3, 8, 8), np.uint8), "sigma": np.exp(2 - index / 4).astype(np.float32),
    }  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "progress.json").write_text(json.dumps({"done": count}))
    psnr = 20 - 10 * np.log10((denoised - lq[:, None]).__pow__(2).mean(axis=(2, 3, 4)))
    brisque = 60 - 20 * np.log10((denoised**2).mean(axis=(2, 3, 4)))
    return RatedWalks(WalkCache(folder), np.stack([psnr, brisque], axis=-1).astype(np.float32))
