"""What an evaluation found, as one Markdown document, tables as CSV, charts, and pictures side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ..drawing.charts import save_sheet
from ..drawing.pictures import draw_comparison, draw_region_map
from ..drawing.regions import report_to_regions
from ..files import whole_file
from ..photo.reading import read_photo
from .complexity import Row
from .curve import Values, compare, compare_at_equal_nfe, differences_to_markdown, draw_curve
from .evaluate import FULL_METRICS, Evaluation
from .methods import BICUBIC, Method
from .sets import Picture
from .table import Result, lines_to_markdown, rows_to_csv, summarise, to_csv, to_markdown
from .tables import Table

PAIRED = "Picture by picture; mean, standard error over pictures, spread over seeds."
COSTS = ("nfe", "seconds")
_FULLS = [f"full_{name}" for name in FULL_METRICS]
ERRORS = "Plus-minus is the standard error over images."


def write_tables(
    evaluation: Evaluation, tables: Sequence[Table], complexity: Sequence[Row], docs: Path | None = None
) -> Path:
    """Write `tables.md` and a CSV for each table, from what has been measured so far.

    Args:
        evaluation: whose numbers.
        tables: to show.
        complexity: rows of Table 2, or none.
        docs: a folder that gets each table as a page of its own, or None.

    Returns:
        The path of `tables.md`.
    """
    pages: dict[str, str] = {}
    if complexity:
        pages["2"] = "## Table 2: complexity\n\n" + _rows_to_markdown(complexity)
        _write(evaluation.out / "table-2.csv", rows_to_csv(complexity, list(complexity[0])))
    for table in tables:
        cells = summarise(_results(evaluation, table))
        _write(evaluation.out / f"table-{table.name}.csv", to_csv(cells))
        text = f"## {table.title}\n\n{to_markdown(cells)}" + (f"\n{table.note}\n" if table.note else "")
        below = (_describe_curve if table.name == "curve" else _describe_ours)(evaluation, table)
        pages[table.name] = f"{text}\n{below}"
    for name, page in pages.items() if docs is not None else ():
        _write(cast(Path, docs) / f"table-{name}.md", f"{page.removeprefix('#').rstrip()}\n\n{ERRORS}\n")
    parts = [f"# Tables\n\n{ERRORS}\n", *pages.values()]
    if evaluation.metrics.missing:
        reasons = "".join(f"* {name}: {why}\n" for name, why in evaluation.metrics.missing.items())
        parts.append(f"## Not measured here\n\n{reasons}")
    path = evaluation.out / "tables.md"
    _write(path, "\n".join(parts))
    return path


def _results(evaluation: Evaluation, table: Table) -> list[Result]:
    """Means over seeds, a result for each picture, metric and method; costs last, of methods that sample."""
    results = []
    fulls = _FULLS if table.name == "curve" else []
    for method in table.methods:
        names = [*evaluation.metrics.usable, *fulls, *(COSTS if method.kind == "sampled" else ())]
        rows: dict[tuple[str, str], list[float]] = {}
        for key, row in _kept(evaluation, table, method).items():
            for name in names:
                if name in row:
                    rows.setdefault((key.rpartition("/")[0], name), []).append(row[name])
        for (picture, name), values in rows.items():
            dataset, _, image = picture.partition("/")
            results.append(Result(method.name, dataset, image, name, sum(values) / len(values)))
    return results


def _describe_ours(evaluation: Evaluation, table: Table) -> str:
    """The last method of a table, which is ours in all of them, against each of the others."""
    *others, ours = table.methods
    values = _kept(evaluation, table, ours)
    rivals = {method.name: _kept(evaluation, table, method) for method in others}
    found = {
        name: compare(values, rows, evaluation.metrics.usable) for name, rows in rivals.items() if values.keys() & rows
    }
    return f"### {ours.name} against the others\n\n{PAIRED}\n\n{differences_to_markdown(found)}" if found else ""


def _describe_curve(evaluation: Evaluation, table: Table) -> str:
    """Charts, and the comparisons that claims rest on."""
    values = {method: _kept(evaluation, table, method) for method in table.methods}
    named = {method.name: values[method] for method in table.methods}
    every = named["uniform 1"]
    fixed = [rows for name, rows in named.items() if name.startswith("course")]
    others = {name: rows for name, rows in named.items() if not name.startswith(("uniform", "course"))}
    names = list(evaluation.metrics.usable)
    families: dict[str, list[Values]] = {}
    # A chart is of the same pictures throughout.
    for name, rows in ((name, rows) for name, rows in named.items() if rows.keys() >= every.keys()):
        families.setdefault(name.partition(" ")[0], []).append(rows)
    for name in [*names, *_FULLS]:
        draw_curve(families, name, evaluation.out / f"curve-{name}.png")
    begun = {name: rows for name, rows in others.items() if rows}
    if not begun or not every or not all(fixed):
        return ""
    equal = {
        name: compare_at_equal_nfe(rows, [*fixed, every], names) + compare_at_equal_nfe(rows, fixed, _FULLS)
        for name, rows in begun.items()
    }
    whole = {name: compare(rows, every, names) for name, rows in begun.items()}
    return (
        "### Against the same course for every tile\n\n"
        f"{PAIRED} `full_` is the likeness to the picture of all steps.\n\n{differences_to_markdown(equal)}\n"
        f"### Against all steps\n\n{differences_to_markdown(whole)}"
    )


def _kept(evaluation: Evaluation, table: Table, method: Method) -> dict[str, dict[str, float]]:
    wanted = {picture.key for picture in evaluation.chosen(table, method)}
    seeds = {str(seed) for seed in evaluation.seeds_of(method)}
    rows = evaluation.values(method).items()
    return {key: row for key, row in rows if key.rpartition("/")[0] in wanted and key.rpartition("/")[2] in seeds}


def write_comparisons(evaluation: Evaluation, count: int) -> None:
    """For the first pictures of each test set: bicubic, ours, the truth if there is one, and where the steps went."""
    ours = evaluation.bench.ours
    sets = dict.fromkeys(picture.dataset for picture in evaluation.pictures)
    for name in sets:
        for picture in [each for each in evaluation.pictures if each.dataset == name][:count]:
            path = evaluation.out / "pictures" / name / f"{picture.name}.png"
            if not path.exists():
                _draw_picture(evaluation, ours, picture, path)


def _draw_picture(evaluation: Evaluation, ours: Method, picture: Picture, path: Path) -> None:
    bench, seed = evaluation.bench, evaluation.seeds[0]
    made = bench.restore(ours, picture, seed)
    shown = [("bicubic", bench.restore(BICUBIC, picture, seed).image[0]), ("ours", made.image[0])]
    if picture.gt is not None:
        shown.append(("truth", read_photo(picture.gt).pixels))
    if made.report is not None:
        regions = report_to_regions(made.report, bench.model.autoencoder.config.factor)
        image = draw_region_map(made.image[0], regions)
        save_sheet(image, path.with_name(f"{path.stem}-map.png"))
    save_sheet(draw_comparison(shown), path)


def _rows_to_markdown(rows: Sequence[Row]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([_plain(row[name]) for name in names] for row in rows)]
    return lines_to_markdown(lines)


def _plain(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
