"""Quality against evaluations: adaptive sampling beside uniform sampling that costs the same, over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from ..drawing.charts import new_figure
from ..errors import ConfigError
from ..files import whole_file
from .table import Info, describe, lines_to_markdown, with_arrow

# By key `dataset/name/seed`: metric -> number, `nfe` among them.
Values = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Difference:
    """A method minus what it is compared with, of one metric.

    Attributes:
        metric: its name.
        mean: over pictures and seeds.
        error: standard error over pictures, each the mean of its seeds.
        spread: standard deviation over seeds of the mean over pictures; NaN with one seed.
        relative: the mean, relative to what it is compared with.
        verdict: better or worse, or `within spread` if the mean is no larger than `spread` or `error`.
    """

    metric: str
    mean: float
    error: float
    spread: float
    relative: float
    verdict: str


def compare_at_equal_nfe(method: Values, uniforms: Sequence[Values], metrics: Iterable[str]) -> list[Difference]:
    """A method against uniform sampling with as many evaluations, picture by picture and seed by seed.

    Uniform sampling between two of its intervals is interpolated linearly in the number of evaluations; beyond the
    last one its nearest is taken.

    Raises:
        ConfigError: the two have no picture in common.
    """
    keys = [key for key in method if all(key in values for values in uniforms)]
    rivals = {}
    for key in keys:
        points = sorted((values[key]["nfe"], values[key]) for values in uniforms)
        costs = [cost for cost, _ in points]
        rivals[key] = {
            name: float(np.interp(method[key]["nfe"], costs, [row[name] for _, row in points]))
            for name in metrics
            if all(name in row for _, row in points)
        }
    return compare(method, rivals, metrics)


def compare(method: Values, rival: Values, metrics: Iterable[str]) -> list[Difference]:
    """A method against another, picture by picture and seed by seed.

    Raises:
        ConfigError: the two have no picture in common.
    """
    keys = [key for key in method if key in rival]
    if not keys:
        raise ConfigError("two methods that are to be compared have no picture in common")
    found = []
    for name in metrics:
        usable = [key for key in keys if _is_number(method[key], name) and _is_number(rival[key], name)]
        if usable:
            found.append(_difference(name, {key: (method[key][name], rival[key][name]) for key in usable}))
    return found


def _is_number(row: Mapping[str, float], name: str) -> bool:
    return name in row and bool(np.isfinite(row[name]))


def _difference(name: str, both: Mapping[str, tuple[float, float]]) -> Difference:
    pictures: dict[str, list[float]] = {}
    seeds: dict[str, list[float]] = {}
    for key, (ours, theirs) in both.items():
        picture, _, seed = key.rpartition("/")
        pictures.setdefault(picture, []).append(ours - theirs)
        seeds.setdefault(seed, []).append(ours - theirs)
    means = [fmean(values) for values in pictures.values()]
    mean = fmean(means)
    error = stdev(means) / len(means) ** 0.5 if len(means) > 1 else float("nan")
    spread = stdev([fmean(values) for values in seeds.values()]) if len(seeds) > 1 else float("nan")
    base = fmean(theirs for _, theirs in both.values())
    info = describe(name)
    # NaN compares as false, so that one seed leaves the error over pictures to decide.
    is_small = abs(mean) <= error or abs(mean) <= spread
    verdict = "within spread" if is_small else "better" if (mean > 0) == info.higher_is_better else "worse"
    return Difference(name, mean, error, spread, mean / base if base else float("nan"), verdict)


def differences_to_markdown(rows: Mapping[str, Sequence[Difference]]) -> str:
    """A row per metric, a column per comparison: mean, standard error, spread over seeds, verdict."""
    metrics = list(dict.fromkeys(row.metric for column in rows.values() for row in column))
    lines = [["metric", *rows], ["---", *["---:"] * len(rows)]]
    for name in metrics:
        info = describe(name)
        cells = {title: {row.metric: row for row in column} for title, column in rows.items()}
        line = [_print(column.get(name), info) for column in cells.values()]
        lines.append([with_arrow(name), *line])
    return lines_to_markdown(lines)


def _print(row: Difference | None, info: Info) -> str:
    if row is None:
        return "-"
    digits = info.digits + 1
    spread = "" if np.isnan(row.spread) else f", seeds {row.spread:.{digits}f}"
    return f"{row.mean:+.{digits}f} ± {row.error:.{digits}f}{spread} ({row.relative:+.1%}, {row.verdict})"


def draw_curve(lines: Mapping[str, Sequence[Values]], metric: str, path: Path) -> None:
    """A PNG of one metric against evaluations per tile, a line for each family of methods.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.2)
    axes = figure.add_subplot(1, 1, 1)
    for name, family in lines.items():
        points = sorted(_mean_point(values, metric) for values in family if values)
        if points:
            nfe, mean, error = zip(*points, strict=True)
            axes.errorbar(nfe, mean, yerr=error, label=name, marker="o", markersize=4, linewidth=1, capsize=2)
    axes.set(xlabel="evaluations per tile", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _mean_point(values: Values, metric: str) -> tuple[float, float, float]:
    """Evaluations, mean over pictures, and over seeds the spread of that mean, or 0."""
    seeds: dict[str, list[float]] = {}
    for key, row in values.items():
        if _is_number(row, metric):
            seeds.setdefault(key.rpartition("/")[2], []).append(row[metric])
    means = [fmean(rows) for rows in seeds.values()] or [float("nan")]
    return fmean(row["nfe"] for row in values.values()), fmean(means), stdev(means) if len(means) > 1 else 0.0
