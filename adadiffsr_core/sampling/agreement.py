"""How well the regressor agrees with the metrics it was taught by: ranks, differences, and the classes chosen."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..gain.mmle import metrics_to_quality
from ..nets.mmle import MmleConfig
from .controller import decide, start_states
from .rule import DtssConfig


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two tensors of one shape, equal values sharing their mean rank; NaN if one is constant.

    Source: Spearman 1904.
    """
    ranks = np.stack([_rank(values.double().numpy().ravel()) for values in (first, second)])
    if np.ptp(ranks, axis=1).min() == 0:
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _rank(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def compare_metrics(predicted: Tensor, true: Tensor, index: Tensor, config: MmleConfig, steps: int) -> dict[str, float]:
    """Rank correlations of each metric over walks; no-reference ones in the second half of the denoising alone.

    Args:
        predicted, true: normalised metrics `[W,V,M]`, in the order of `config.metrics`.
        index: base indices of the visits, `[W,V]`.
        config: names of the metrics.
        steps: number of base steps N.

    Returns:
        For each metric `<name>` over all visits, `<name>.within` as the mean of each walk's own, and `<name>.change`
        of the differences between consecutive visits; NaN where nothing varies.
    """
    figures: dict[str, float] = {}
    for place, name in enumerate(config.metrics):
        counts = index >= (steps / 2 if name in config.nr_metrics else 0)
        guess, truth = predicted[..., place], true[..., place]
        within = [spearman(guess[walk, kept], truth[walk, kept]) for walk, kept in enumerate(counts) if kept.sum() > 1]
        later = counts[:, 1:]
        figures |= {
            name: spearman(guess[counts], truth[counts]),
            f"{name}.within": float(np.nanmean(within)) if np.isfinite(within).any() else float("nan"),
            f"{name}.change": spearman(guess.diff(dim=1)[later], truth.diff(dim=1)[later]),
        }
    return figures


def compare_classes(
    predicted: Tensor, true: Tensor, index: Tensor, config: MmleConfig, dtss: DtssConfig, steps: int
) -> dict[str, float]:
    """How often both lead the controller to the same class, from the second visit on.

    Args:
        predicted, true, index, config, steps: see `compare_metrics`.
        dtss: the controller's rule.

    Returns:
        `class_agreement`, and the same of the open decisions alone, `class_agreement.open`: those where no-reference
        gain counts, before which no tile can be anything but stable. Beside it `commonest_class.open`, which always
        guessing the open decisions' commonest class would reach. All in [0,1], NaN where nothing is open.
    """
    guess, truth = (_choose_classes(values, index, config, dtss, steps) for values in (predicted, true))
    is_open = index[:, 1:] >= dtss.nr_from * steps
    open_truth = truth[is_open]
    return {
        "class_agreement": float((guess == truth).float().mean()),
        "class_agreement.open": float((guess[is_open] == open_truth).float().mean()),
        "commonest_class.open": float(torch.bincount(open_truth, minlength=1).max() / open_truth.numel()),
    }


def _choose_classes(values: Tensor, index: Tensor, config: MmleConfig, dtss: DtssConfig, steps: int) -> Tensor:
    """`TileClass` at every visit but the first, `[W,V-1]`."""
    walks, visits = index.shape
    quality = metrics_to_quality(values.flatten(0, 1), config).reshape(walks, visits, 2)
    dtss = replace(dtss, rule="paper")  # the only one that goes by classes
    chosen = []
    for visit in range(1, visits):
        states = replace(
            start_states(walks, dtss),
            index=index[:, visit],
            interval=index[:, visit] - index[:, visit - 1],
            quality=quality[:, visit - 1],
            visits=torch.ones(walks, dtype=torch.long),
        )
        chosen.append(decide(states, quality[:, visit], dtss, steps).classes)
    return torch.stack(chosen, dim=1)
