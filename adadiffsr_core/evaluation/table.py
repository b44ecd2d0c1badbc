"""Results to tables: means with standard errors, as Markdown and CSV."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import fmean, stdev
from typing import NamedTuple

from ..errors import ConfigError
from ..metrics.registry import metric_info


class Info(NamedTuple):
    """How a column of numbers reads.

    Attributes:
        higher_is_better: its direction.
        digits: after the point.
    """

    higher_is_better: bool
    digits: int


def describe(name: str) -> Info:
    """A metric, the same against the picture of all steps (`full_<metric>`), or a cost (`nfe`, `seconds`).

    Raises:
        ConfigError: there is no such metric.
    """
    if name in ("nfe", "seconds"):
        return Info(False, 2)
    info = metric_info(name.removeprefix("full_"))
    return Info(info.higher_is_better, 2 if abs(info.best - info.worst) > 1 else 4)


class Result(NamedTuple):
    """One number: what `metric` says of what `method` made of `image`."""

    method: str
    dataset: str
    image: str
    metric: str
    value: float


@dataclass(frozen=True)
class Cell:
    """What a method reaches on a dataset.

    Attributes:
        dataset: the test set.
        metric: the metric's name.
        method: the method.
        mean: over the images for which the metric is defined; NaN if there is none.
        standard_error: of that mean; NaN below two images.
        count: how many images it is the mean of.
        is_best: no method is better, at the precision printed, of those measured on the most images.
    """

    dataset: str
    metric: str
    method: str
    mean: float
    standard_error: float
    count: int
    is_best: bool


def summarise(results: Iterable[Result]) -> list[Cell]:
    """Cells by dataset, metric and method, each in the order of first appearance.

    Raises:
        ConfigError: a number is given twice, or a metric is unknown.
    """
    groups: dict[tuple[str, str, str], dict[str, float]] = {}
    for method, dataset, image, metric, value in results:
        images = groups.setdefault((dataset, metric, method), {})
        if image in images:
            raise ConfigError(f"{method} has two values of {metric} for {image} of {dataset}")
        images[image] = value
    means = {key: _mean_and_error(list(images.values())) for key, images in groups.items()}
    order = [dict.fromkeys(column) for column in zip(*groups, strict=True)]
    keys = (key for key in product(*order) if key in means)
    return [Cell(*key, *means[key], is_best=_is_best(key, means)) for key in keys]


def to_markdown(cells: list[Cell]) -> str:
    """A row per dataset and metric, a column per method; arrows show the better direction, bold the best."""
    methods = list(dict.fromkeys(cell.method for cell in cells))
    rows: dict[tuple[str, str], dict[str, Cell]] = {}
    for cell in cells:
        rows.setdefault((cell.dataset, cell.metric), {})[cell.method] = cell
    lines = [["dataset", "metric", *methods], ["---", "---", *["---:"] * len(methods)]]
    for (dataset, metric), row in rows.items():
        is_uneven = len({cell.count for cell in row.values()}) > 1
        lines.append([dataset, with_arrow(metric), *(_print_cell(row.get(method), is_uneven) for method in methods)])
    return lines_to_markdown(lines)


def to_csv(cells: list[Cell]) -> str:
    """A header and a row per cell, at full precision; NaN is empty."""
    rows = [{name: "" if value != value else value for name, value in asdict(cell).items()} for cell in cells]
    return rows_to_csv(rows, list(Cell.__dataclass_fields__))


def rows_to_csv(rows: Iterable[Mapping[str, object]], names: Sequence[str]) -> str:
    """A header of `names` and a row of values for each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines_to_markdown(lines: Iterable[Sequence[str]]) -> str:
    """A table of texts, the second line of which says how columns are aligned."""
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_arrow(metric: str) -> str:
    """A metric's name, and an arrow to where its values are better."""
    return f"{metric} {'↑' if describe(metric).higher_is_better else '↓'}"


def _mean_and_error(values: list[float]) -> tuple[float, float, int]:
    defined = [value for value in values if math.isfinite(value)]
    mean = fmean(defined) if defined else math.nan
    error = stdev(defined) / math.sqrt(len(defined)) if len(defined) > 1 else math.nan
    return mean, error, len(defined)


def _is_best(key: tuple[str, str, str], means: dict[tuple[str, str, str], tuple[float, float, int]]) -> bool:
    info = describe(key[1])
    rivals = [(mean, count) for other, (mean, _, count) in means.items() if other[:2] == key[:2] and count]
    most = max((count for _, count in rivals), default=0)
    rounded = [round(mean, info.digits) for mean, count in rivals if count == most]
    mean, _, count = means[key]
    best = (max if info.higher_is_better else min)(rounded, default=math.nan)
    return count == most and round(mean, info.digits) == best


def _print_cell(cell: Cell | None, with_count: bool) -> str:
    if cell is None or math.isnan(cell.mean):
        return "-"
    digits = describe(cell.metric).digits
    mean = f"{cell.mean:.{digits}f}"
    error = "" if math.isnan(cell.standard_error) else f" ± {cell.standard_error:.{digits}f}"
    return (f"**{mean}**" if cell.is_best else mean) + error + (f" (n = {cell.count})" if with_count else "")
