"""A run's information gains as curves over base indices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..sampling.report import RunReport


@dataclass(frozen=True)
class Curve:
    """One tile's gains of one kind.

    Attributes:
        indices: base indices of its evaluations but the first, which compares with nothing.
        gains: one for each, finite.
        share: evaluations it took, of those possible.
    """

    indices: list[int]
    gains: list[float]
    share: float


def collect_curves(report: RunReport, kind: Literal["fr_gain", "nr_gain"]) -> list[Curve]:
    """The gains of every tile that has any; values that are not finite are left out."""
    curves = []
    for tile in report.tiles:
        points = [(step.index, float(getattr(step, kind))) for step in tile.steps[1:]]
        points = [(index, gain) for index, gain in points if math.isfinite(gain)]
        if points:
            curves.append(Curve([i for i, _ in points], [gain for _, gain in points], tile.nfe / report.base_steps))
    return curves


def explain_no_gains(report: RunReport) -> str:
    """Why no gain of the run tells anything; empty if one does."""
    gains = [gain for tile in report.tiles for step in tile.steps[1:] for gain in (step.fr_gain, step.nr_gain)]
    if any(gain and math.isfinite(gain) for gain in gains):
        return ""
    if not report.nfe:
        reason = "every tile was left untouched"
    elif not gains:
        reason = "no tile was evaluated twice"
    else:
        reason = "their metrics are undefined here" if any(gains) else "the run was uniform"
    return f"no gains were measured: {reason}"


def median_curve(curves: Sequence[Curve]) -> list[tuple[int, float]]:
    """(index, gain) in between and at the curves' points, wherever at least half of the curves reach."""
    last = max(curve.indices[-1] for curve in curves)
    places = np.arange(last + 1)
    rows = np.array([np.interp(places, c.indices, c.gains, left=np.nan, right=np.nan) for c in curves])
    reached = np.flatnonzero(2 * np.isfinite(rows).sum(axis=0) >= len(curves))
    return [(int(place), float(np.nanmedian(rows[:, place]))) for place in reached]
