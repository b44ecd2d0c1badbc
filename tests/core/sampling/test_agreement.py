"""MMLE's figures: rank correlation, and the classes it leads the controller to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from adadiffsr_core.sampling.agreement import compare_classes, compare_metrics, spearman
from adadiffsr_core.sampling.rule import DtssConfig
from adadiffsr_core.training.walks.walks import draw_path
from tests.walked import NET, STEPS


def test_spearman_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    first, second = torch.from_numpy(rng.integers(0, 9, (2, 200)))
    assert spearman(first, first + second) == pytest.approx(stats.spearmanr(first, first + second).statistic)
    assert spearman(first, first.exp()) == pytest.approx(1)
    assert spearman(first, -first) == pytest.approx(-1)
    assert math.isnan(spearman(first, torch.ones(200)))


def draw_truth(walks=6):
    rng = np.random.default_rng(2)
    index = torch.from_numpy(np.stack([draw_path(rng, STEPS, 8, 4)[:-1] for _ in range(walks)]))
    return torch.from_numpy(rng.uniform(0, 1, (walks, 8, 2)).astype(np.float32)), index


def test_who_is_right_agrees_and_noise_in_the_first_half_does_not_count_for_nr():
    true, index = draw_truth()
    figures = compare_metrics(true, true, index, NET, STEPS)
    assert figures.keys() == {name + end for name in NET.metrics for end in ("", ".within", ".change")}
    assert all(value == pytest.approx(1) for value in figures.values())
    early = true.clone()
    early[index < STEPS / 2] = torch.rand_like(early[index < STEPS / 2])
    figures = compare_metrics(early, true, index, NET, STEPS)
    assert figures["brisque"] == pytest.approx(1)
    assert figures["brisque.within"] == pytest.approx(1)
    assert figures["psnr"] < 0.9


def test_an_offset_per_walk_spoils_the_whole_but_neither_within_nor_change():
    true, index = draw_truth(12)
    moved = (
        true + torch.linspace(0, 5, 12)[torch.randperm(12, generator=torch.Generator().manual_seed(0))][:, None, None]
    )
    figures = compare_metrics(moved, true, index, NET, STEPS)
    assert figures["psnr"] < 0.5
    assert figures["psnr.within"] == pytest.approx(1)
    assert figures["psnr.change"] > 0.999


def test_classes_agree_as_the_controller_would_choose_them():
    """Three walks of three visits by hand; the third differs at its last visit."""
    dtss = DtssConfig(gain_threshold=0.01, nr_from=0.5, early_exit=True)
    index = torch.tensor([[0, 12, 14]] * 3)
    true = torch.tensor([
        [[0.5, 0.5], [0.9, 0.9], [0.5, 0.95]],  # NR counts from 12 on: growing, growing
        [[0.5, 0.5], [0.5, 0.9], [0.9, 0.5]],  # FR does not move: stable; then NR falls: saturated
        [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9]],  # stable, stable
    ])  # fmt: skip
    guess = true.clone()
    guess[2, 2] = torch.tensor([0.5, 0.9])  # growing
    figures = compare_classes(guess, true, index, NET, dtss, 24)
    assert figures == pytest.approx(
        {"class_agreement": 5 / 6, "class_agreement.open": 5 / 6, "commonest_class.open": 3 / 6}
    )
    late = compare_classes(guess, true, index, NET, replace(dtss, nr_from=13 / 24), 24)
    # Visits at 12 are stable by rule; open are growing, saturated, stable.
    assert late == pytest.approx(
        {"class_agreement": 5 / 6, "class_agreement.open": 2 / 3, "commonest_class.open": 1 / 3}
    )
    lasting = compare_classes(guess, true, index, NET, replace(dtss, early_exit=False), 24)
    assert lasting["commonest_class.open"] == pytest.approx(3 / 6)  # growing, growing, and what was saturated
    never = compare_classes(guess, true, index, NET, replace(dtss, nr_from=1.0), 24)
    assert never["class_agreement"] == 1
    assert math.isnan(never["class_agreement.open"])
