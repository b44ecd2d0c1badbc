"""The paper's tables, as data: which methods, on which test sets, by which metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ..errors import ConfigError
from ..settings import PRESETS
from ..text import quoted
from .methods import BICUBIC, Method, adaptive, uniform

# Of section 4.2, and what can be measured without a download.
PAPER_METRICS = ("psnr", "ssim", "lpips", "ahiq", "musiq", "topiq", "brisque", "niqe")
METRICS = ("psnr", "ssim", "st_lpips", "nlpd", "vsi", "niqe", "brisque", "piqe")
INTERVALS = ((5, 5, 5, 5), (5, 10, 10, 15), (5, 10, 15, 25), (5, 15, 20, 25), (10, 15, 20, 25), (5, 10, 15, 20))
THRESHOLDS = (1, 4, 16)  # times the preset's
EVALUATIONS = (4, 5, 6, 7, 8, 10)
DIALS = (36, 38, 40, 42, 44)  # likeness, dB
VIEWS = (("FR", "fr"), ("NR", "nr"), ("both", "both"))
Wants = Literal["all", "pairs", "photos", "synthetic"]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: as `--tables` takes it.
        title: above it.
        methods: its columns.
        wants: which kind of test set.
        prefers: names of sets to keep to, where the evaluation has any of them.
        every: only every so many-th image, since the methods are slow.
        note: below it.
    """

    name: str
    title: str
    methods: Sequence[Method]
    wants: Wants = "all"
    prefers: tuple[str, ...] = ()
    every: int = 1
    note: str = ""


def build_tables(ours: Method, pictures: Mapping[str, Path], injections: Sequence[str]) -> dict[str, Table]:
    """Every table by its name, for the networks and comparators that there are.

    Source: Tables 1 and 3 to 7 of the paper; Table 2 counts and needs no pictures, see `complexity.py`.

    Args:
        ours: the whole system, see `Bench.ours`.
        pictures: folders of other methods' results, by name.
        injections: names of feature injections.

    Raises:
        ConfigError: two columns of a table would have one name, and one set of numbers.
    """
    plain = replace(ours, name="none", injection="")
    others = [Method(name=name, kind="pictures", folder=folder) for name, folder in pictures.items()]
    rivals = [replace(ours, name=name, injection=name) for name in ("concat", "cross_attention") if name in injections]
    tables = [
        Table(name="1", title="Table 1: beside other methods", methods=(BICUBIC, *others, plain, ours)),
        Table(
            name="3",
            title="Table 3: intervals, in timesteps of 1,000 (paper preset, DDPM, 200 base steps)",
            methods=[_interval_row(row) for row in INTERVALS],
            wants="pairs",
            prefers=("DRealSR",),
            every=2,
        ),
        Table(
            name="4",
            title="Table 4: metrics in MMLE",
            methods=[_with_dtss(ours, name, rule="paper", views=view) for name, view in VIEWS],
            wants="pairs",
            prefers=("RealSR",),
        ),
        Table(name="5", title="Table 5: feature injection", methods=(plain, *rivals, replace(ours, name="PFJ"))),
        Table(
            name="6",
            title="Table 6: regions",
            methods=(
                replace(ours, name="superpixels", slicing="superpixels"),
                replace(ours, name="grid"),
            ),
            wants="synthetic",
            note="The paper's segments are SAM's; these are superpixels of scikit-image (decision D30).",
        ),
        Table(name="7", title="Table 7: module by module", methods=_module_rows(plain, ours), wants="synthetic"),
        Table(name="curve", title="Quality against evaluations", methods=_curve_methods(plain), wants="pairs"),
    ]
    for table in tables:
        names = [method.name for method in table.methods]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"{table.title} has {quoted(twice[0], 80)} already; give the pictures another name")
    return {table.name: table for table in tables}


def choose_tables(names: Sequence[str], tables: Mapping[str, Table]) -> list[Table]:
    """The tables asked for, `all` being all of them; 2 is told apart by the command.

    Raises:
        ConfigError: there is no such table.
    """
    known = [*tables, "2", "all"]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"there is no table {', '.join(unknown)}; choose from {', '.join(known)}")
    return [table for name, table in tables.items() if name in names or "all" in names]


def _interval_row(intervals: tuple[int, ...]) -> Method:
    """Intervals of 1,000 timesteps as base steps of the paper's preset."""
    stride = 1000 // PRESETS["paper"].steps
    ladder = tuple(interval // stride for interval in intervals)
    return adaptive(f"({','.join(map(str, intervals))})", "paper", intervals=ladder)


def _with_dtss(method: Method, name: str, **changes: object) -> Method:
    """The method with other numbers for the controller."""
    dtss = replace(method.sampling.dtss, **changes)  # type: ignore[arg-type]
    return replace(method, name=name, sampling=replace(method.sampling, dtss=dtss))


def _module_rows(plain: Method, ours: Method) -> list[Method]:
    """Table 7: the model alone, then one part more at a time; tiles are merged with an overlap from the last row on."""
    bare = replace(plain.sampling, overlap=0, tile_fit=False, dtss=replace(plain.sampling.dtss, rule="paper"))
    baseline = replace(plain, name="baseline", sampling=bare.uniform(1))
    teacher = replace(plain, name="+ DTSS (IQA)", sampling=bare, estimate="iqa", every=2)
    return [
        baseline,
        *([teacher] if plain.estimate == "mmle" else []),
        replace(plain, name="+ DTSS (MMLE)" if plain.estimate == "mmle" else "+ DTSS", sampling=bare),
        replace(ours, name="+ PFJ", sampling=bare),
        replace(ours, name="+ RIS (ours)"),
    ]


def _curve_methods(plain: Method) -> list[Method]:
    """Fixed and adaptive schedules of one model, without feature injection, which sees no gain in uniform runs.

    `course` are the same evaluations for every tile, by the bounded rule's own course of that number: the best of the
    fixed schedules. `bounded` are dials of likeness, the others thresholds of the paper's rule, by each estimate of
    gain.
    """
    threshold = plain.sampling.dtss.gain_threshold
    methods = [uniform(interval, injection="") for interval in (1, 2, 3, 4)]
    # What knows no difficulty takes all tiles for alike, so that a budget is a schedule.
    blind = replace(plain, estimate="latent")
    methods += [_with_dtss(blind, f"course {n}", rule="bounded", budget=float(n)) for n in EVALUATIONS]
    methods += [_with_dtss(plain, f"bounded {dial}", rule="bounded", likeness=float(dial)) for dial in DIALS]
    estimates = {"latent": "latent"} | ({"MMLE": "mmle"} if plain.estimate == "mmle" else {})
    for name, estimate in estimates.items():
        for factor in THRESHOLDS:
            method = _with_dtss(plain, f"{name} x{factor}", rule="paper", gain_threshold=threshold * factor)
            methods.append(replace(method, estimate=estimate))  # type: ignore[arg-type]
    iqa = replace(_with_dtss(plain, "IQA x1", rule="paper"), estimate="iqa", every=4)
    return methods + ([iqa] if "MMLE" in estimates else [])
