"""Every metric by its name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..text import shown
from .base import CheckedMetric, Metric, MetricInfo
from .psnr import psnr, psnr_y
from .pyiqa_metric import load_pyiqa
from .st_lpips import StLpips


@dataclass(frozen=True)
class _Recipe:
    """A metric before it is loaded."""

    info: MetricInfo
    min_side: int
    pyiqa_name: str = ""
    weights_file: str = ""
    downloads: bool = field(default=False, kw_only=True)


def _full(name: str, worst: float, best: float) -> MetricInfo:
    return MetricInfo(name, True, best > worst, worst, best)


def _no(name: str, worst: float, best: float) -> MetricInfo:
    return MetricInfo(name, False, best > worst, worst, best)


# Ranges: the metric's own bounds where it has some, else what photographs and their wrecks span.
_RECIPES = {
    recipe.info.name: recipe
    for recipe in (
        _Recipe(_full("psnr", 0, 50), 1),
        _Recipe(_full("psnr_y", 0, 50), 1),
        _Recipe(_full("ssim", 0, 1), 11, "ssim"),
        _Recipe(_full("ms_ssim", 0, 1), 176, "ms_ssim"),
        _Recipe(_full("nlpd", 1, 0), 32, "nlpd"),
        _Recipe(_full("vsi", 0, 1), 32, "vsi"),
        _Recipe(_full("fsim", 0, 1), 32, "fsim"),
        _Recipe(_full("gmsd", 0.5, 0), 32, "gmsd"),
        _Recipe(_full("st_lpips", 1, 0), 32),
        _Recipe(_full("lpips", 1, 0), 32, "lpips", downloads=True),
        _Recipe(_full("dists", 1, 0), 32, "dists", downloads=True),
        _Recipe(_full("ahiq", 0, 1), 224, "ahiq", downloads=True),
        _Recipe(_full("topiq_fr", 0, 1), 32, "topiq_fr", downloads=True),
        _Recipe(_no("topiq", 0, 1), 32, "topiq_nr", downloads=True),
        _Recipe(_no("musiq", 0, 100), 32, "musiq", downloads=True),
        _Recipe(_no("maniqa", 0, 1), 224, "maniqa", downloads=True),
        _Recipe(_no("clipiqa", 0, 1), 32, "clipiqa", downloads=True),
        _Recipe(_no("hyperiqa", 0, 1), 224, "hyperiqa", downloads=True),
        _Recipe(_no("niqe", 20, 0), 192, "niqe", "niqe_modelparameters.mat", downloads=True),
        _Recipe(_no("brisque", 100, 0), 32, "brisque", "brisque_svm_weights.pth", downloads=True),
        _Recipe(_no("piqe", 100, 0), 32, "piqe"),
    )
}


def metric_names() -> tuple[str, ...]:
    """Every name that `create_metric` knows."""
    return tuple(_RECIPES)


def metric_info(name: str) -> MetricInfo:
    """What a metric's numbers mean, without loading it.

    Raises:
        ConfigError: the name is unknown.
    """
    return _recipe(name).info


def create_metric(name: str, device: torch.device | str = "cpu", weights_folder: Path | None = None) -> Metric:
    """Load a metric.

    PSNR needs nothing, all others the extra `iqa`. Learned metrics other than ST-LPIPS also need weights, which pyiqa
    keeps in its cache and downloads where it can.

    Args:
        name: one of `metric_names()`.
        device: where it works and its values are.
        weights_folder: looked in first for `brisque_svm_weights.pth` and `niqe_modelparameters.mat`.

    Raises:
        ConfigError: the name is unknown.
        MissingExtraError: the metric needs a package that is not installed.
        CheckpointError: its weights are neither here nor to be had, or damaged.
    """
    recipe, device = _recipe(name), torch.device(device)
    if name in ("psnr", "psnr_y"):
        compute: Callable[..., Tensor] = psnr if name == "psnr" else psnr_y
    elif name == "st_lpips":
        compute = StLpips().to(device)
    else:
        local = _local_weights(recipe, weights_folder)
        compute = load_pyiqa(recipe.pyiqa_name, device, local, may_download=recipe.downloads and local is None)
    return CheckedMetric(recipe.info, compute, recipe.min_side, device)


def _recipe(name: str) -> _Recipe:
    if name not in _RECIPES:
        raise ConfigError(f"there is no metric {shown(name, 80)}; choose from {', '.join(_RECIPES)}")
    return _RECIPES[name]


def _local_weights(recipe: _Recipe, folder: Path | None) -> Path | None:
    if folder is None or not recipe.weights_file:
        return None
    path = folder / recipe.weights_file
    return path if path.is_file() else None
