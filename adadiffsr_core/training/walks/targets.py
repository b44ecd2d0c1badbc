"""Targets of the MMLE regressor: metrics of the decoded estimates of walks, measured once and kept on disk.

Every metric has a folder of its own, so that another one can be added to walks that were made before.

Source: section 3.2.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...data.arrays import Layout, open_arrays, read_done, write_done
from ...metrics.base import Metric, MetricInfo
from .walks import WalkCache

Reference = Literal["lq", "gt"]


def target_folder(walks: Path, metric: MetricInfo, reference: Reference) -> Path:
    """Where a metric's values are, beside the walks; those of no-reference ones are the same for either reference."""
    return walks / "targets" / (f"{metric.name}-{reference}" if metric.needs_reference else metric.name)


def target_layouts(walks: int, visits: int) -> dict[str, Layout]:
    """Of the array of a metric's values."""
    return {"values": Layout((walks, visits), np.float32)}


def measure_targets(
    cache: WalkCache,
    metrics: Mapping[str, Metric],
    reference: Reference,
    decode: Callable[[Tensor], Tensor],
    on_step: Callable[[int], None] = lambda more: None,
) -> np.ndarray:
    """Measure every estimate of every walk, going on where an earlier call stopped.

    Args:
        cache: the walks, all of them whole.
        metrics: by name, in the order of the result.
        reference: what full-reference metrics compare with: the low-quality latent, decoded, or the truth.
        decode: latents `[B,C,h,w]` to images `[B,3,H,W]` in [0,1].
        on_step: told how many more walks are measured and on disk, those of earlier calls first; what it raises goes
            through and loses nothing.

    Returns:
        The metrics' own values `[W,V,M]` float32; NaN where one is undefined.

    Raises:
        ConfigError: the folder holds values of another number of walks.
        DiskError: the disk has no room for them.
    """
    folders = {name: target_folder(cache.folder, metric.info, reference) for name, metric in metrics.items()}
    layouts = target_layouts(*cache.denoised.shape[:2])
    arrays = {name: open_arrays(folder, layouts)["values"] for name, folder in folders.items()}
    done = {name: read_done(folder, cache.count) for name, folder in folders.items()}
    first = min(done.values())
    on_step(first)
    with tqdm(total=cache.count, initial=first, desc="targets", mininterval=5) as bar:
        for walk in range(first, cache.count):
            wanted = {name: metric for name, metric in metrics.items() if done[name] <= walk}
            for name, values in _measure_walk(cache, walk, wanted, reference, decode).items():
                arrays[name][walk] = values.cpu().numpy()
                arrays[name].flush()
                write_done(folders[name], walk + 1)
            bar.update()
            on_step(1)
    return np.stack([arrays[name] for name in metrics], axis=-1)


def _measure_walk(
    cache: WalkCache, walk: int, metrics: Mapping[str, Metric], reference: Reference, decode: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Values `[V]` by metric."""
    images = decode(_to_latent(cache.denoised[walk]))
    if reference == "gt":
        truth = torch.from_numpy(cache.gt[walk : walk + 1].copy()).to(images.device).float() / 255
    else:
        truth = decode(_to_latent(cache.lq_latent[walk : walk + 1]))
    truths = truth.expand_as(images)
    return {name: metric(images, truths) for name, metric in metrics.items()}


def _to_latent(stored: np.ndarray) -> Tensor:
    # Copied in any case: torch warns of memory that it must not write to.
    return torch.from_numpy(stored.astype(np.float32))
