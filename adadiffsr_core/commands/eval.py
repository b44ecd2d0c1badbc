"""`adadiffsr eval`: the paper's tables on test sets; a stopped evaluation goes on where it was."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..data.origin import fingerprint_weights
from ..errors import ConfigError
from ..evaluation.complexity import complexity_rows
from ..evaluation.document import write_comparisons, write_tables
from ..evaluation.evaluate import Evaluation, load_metrics
from ..evaluation.methods import Method
from ..evaluation.origins import check_results, claim_pictures, find_left_out, list_files
from ..evaluation.restore import Bench
from ..evaluation.sets import (
    IMAGE_SUFFIXES,
    Picture,
    choose,
    make_pairs,
    parse_named,
    parse_set,
    read_pairs,
    read_photos,
)
from ..evaluation.tables import METRICS, PAPER_METRICS, Table, build_tables, choose_tables
from ..metrics.registry import create_metric, metric_info
from ..models.model import Model, embedded_weights, load_model
from ..models.networks import load_mmle, load_pfj
from ..nets.pfj import Pfj
from ..photo.reading import read_photo
from ..text import quoted, shown
from .helpers import helpers, stop_if_alone
from .interrupts import stop_if_asked
from .options import (
    PROCESSES_EACH,
    add_device,
    choose_device,
    choose_dtype,
    parse_folder,
    parse_names,
    parse_path,
    parse_source,
    set_threads,
)
from .terminal import say

_MOST_SEED = 2**64 - 1
_MOST_NAMES = 20
_KINDS = f"not of a kind that is measured ({', '.join(sorted(IMAGE_SUFFIXES))})"
# Why pictures are left out of a test set.
_WHY = {"pairs": f"without a partner of the same name, or {_KINDS}", "photos": _KINDS, "synthetic": _KINDS}
EVERYTHING = tuple(dict.fromkeys((*METRICS, *PAPER_METRICS)))


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr`."""
    parser = subparsers.add_parser("eval", help="measure on test sets", description=__doc__, allow_abbrev=False)
    parser.add_argument("--out", type=parse_folder, required=True, metavar="FOLDER", help="where numbers and tables go")
    parser.add_argument(
        "--docs", type=parse_folder, metavar="FOLDER", help="folder for each table as a page of its own"
    )
    sets = parser.add_argument_group("test sets (each may be given several times)")
    sets.add_argument("--pairs", action="append", default=[], metavar="NAME=LQ:GT", help="low quality and truth")
    sets.add_argument("--photos", action="append", default=[], metavar="NAME=LQ", help="without a truth")
    sets.add_argument("--synthetic", action="append", default=[], metavar="NAME=GT", help="to be degraded here")
    sets.add_argument("--half", choices=("first", "second"), help="every second picture only")
    sets.add_argument("--every", type=int, default=1, metavar="K", help="every K-th picture only")
    sets.add_argument("--limit", type=int, metavar="N", help="so many pictures of each set at most")
    what = parser.add_argument_group("what")
    what.add_argument(
        "--tables", type=parse_names, default=("all",), metavar="1,2,..", help="1 to 7, curve or all (all)"
    )
    what.add_argument("--metrics", type=parse_names, default=EVERYTHING, metavar="A,B,..", help="what is measured")
    what.add_argument("--seeds", type=parse_names, default=("0",), metavar="A,B,..", help="seeds of the noise")
    what.add_argument("--iqa-weights", type=parse_source, metavar="FOLDER", help="local weights of BRISQUE and NIQE")
    what.add_argument("--pictures", action="append", default=[], metavar="NAME=FOLDER", help="another method's results")
    what.add_argument("--comparisons", type=int, default=3, metavar="N", help="pictures side by side of each set (3)")
    networks = parser.add_argument_group("networks")
    networks.add_argument("--model", type=parse_path, metavar="FILE", help="weights; the embedded model if not given")
    networks.add_argument("--mmle", type=parse_path, metavar="FILE", help="a regressor in place of the model's own")
    networks.add_argument("--pfj", action="append", default=[], metavar="NAME=FILE", help="further feature injections")
    machine = parser.add_argument_group("machine")
    add_device(machine)
    machine.add_argument("--threads", type=int, metavar="N", help="processor threads, for each process")
    machine.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that share the work (1)")
    parser.set_defaults(run=run_eval)


def run_eval(args: argparse.Namespace) -> int:
    """Measure what is missing, then write every table.

    Raises:
        AdaDiffSRError: anything that makes it impossible, in one sentence.
    """
    _check_words(args)
    pictures, kinds = _read_sets(args, _tell)  # before processes share the work: it makes synthetic pairs
    others = _read_named("--pictures", args.pictures)
    for name, folder in others.items():
        check_results(name, folder, list(kinds))
    evaluation, tables = _prepare(args, pictures, kinds, (0, args.jobs))
    _look_through(list_files(pictures, others).values())
    claim_pictures(args.out, pictures, others)  # once nothing else can be refused
    with helpers(_work, args, args.jobs):
        _run(evaluation, tables, stop_if_asked)
    evaluation = replace(evaluation, share=(0, 1))
    if args.jobs > 1:  # whatever is still missing
        _run(evaluation, tables, stop_if_asked)
    wants_complexity = any(name in args.tables for name in ("2", "all"))
    rows = complexity_rows(evaluation.bench.model) if wants_complexity else []
    write_comparisons(evaluation, args.comparisons)
    say(str(write_tables(evaluation, tables, rows, args.docs)))
    return 0


def _look_through(files: Iterable[Path]) -> None:
    """Decode every picture once, since one that is damaged would be found only after hours of measuring.

    Raises:
        ImageError: one cannot be read; it is named.
    """
    for file in dict.fromkeys(files):
        stop_if_asked()
        read_photo(file)


def _check_words(args: argparse.Namespace) -> None:
    """Refuse words that would be found wrong only when pairs are made, or networks loaded by every process.

    Raises:
        ConfigError: one is out of its range, or names what there is not.
    """
    most = PROCESSES_EACH * (os.cpu_count() or 1)
    if not 1 <= args.jobs <= most:
        raise ConfigError(f"--jobs must be from 1 to {most} on this machine, got {shown(args.jobs)}")
    for name, least in (("every", 1), ("limit", 1), ("comparisons", 0)):
        value = getattr(args, name)
        if value is not None and (not isinstance(value, int) or value < least):  # "--" leaves a list
            raise ConfigError(f"--{name} must be at least {least}, got {shown(value)}")
    for seed in args.seeds:
        _parse_seed(seed)
    for name in args.metrics:
        metric_info(name)
    pictures = _read_named("--pictures", args.pictures)
    for name, folder in pictures.items():
        if not folder.is_dir():
            raise ConfigError(f"{folder}, the pictures of {quoted(name, 80)}, is not a folder")
    _read_named("--pfj", args.pfj)
    choose_tables(args.tables, build_tables(Method(name="ours"), pictures, []))


def _work(args: argparse.Namespace, number: int) -> None:
    """Another process's share."""
    _run(*_prepare(args, *_read_sets(args, lambda text: None), (number, args.jobs)), stop_if_alone)


def _run(evaluation: Evaluation, tables: list[Table], check: Callable[[], None]) -> None:
    """Measure a share; `check` may raise between two results."""
    number, of = evaluation.share
    name = "eval" if of == 1 else f"eval {number + 1} of {of}"
    for _ in tqdm(evaluation.run(tables), desc=name, mininterval=5, position=number):
        check()


def _prepare(
    args: argparse.Namespace, pictures: list[Picture], kinds: Mapping[str, str], share: tuple[int, int]
) -> tuple[Evaluation, list[Table]]:
    set_threads(args.threads)
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    rater = device if device.type == "cuda" else torch.device("cpu")  # other kinds lack parts of many metrics
    model = load_model(args.model or embedded_weights(), device, dtype)
    model = replace(model, mmle=load_mmle(args.mmle, device, dtype)) if args.mmle else model
    injections = _read_injections(args, model)
    model = replace(model, pfj=injections.get("pfj"))
    names = () if model.mmle is None else model.mmle.config.metrics

    def teachers() -> list[Any]:
        return [create_metric(name, rater, args.iqa_weights) for name in names]

    networks = _fingerprint(model, injections)
    bench = Bench(model, injections, teachers)
    tables = choose_tables(
        args.tables, build_tables(bench.ours, _read_named("--pictures", args.pictures), list(injections))
    )
    evaluation = Evaluation(
        out=args.out,
        bench=bench,
        networks=networks,
        pictures=pictures,
        seeds=[_parse_seed(seed) for seed in args.seeds],
        metrics=load_metrics(args.metrics, args.iqa_weights, rater),
        kinds=kinds,
        share=share,
    )
    return evaluation, tables


def _read_sets(args: argparse.Namespace, tell: Callable[[str], None]) -> tuple[list[Picture], dict[str, str]]:
    pictures: list[Picture] = []
    kinds: dict[str, str] = {}
    for kind in ("pairs", "photos", "synthetic"):
        for text in getattr(args, kind):
            name, folders = parse_set(text)
            if name in kinds:
                raise ConfigError(f"two test sets are called {name}; give each a name of its own")
            kinds[name] = kind
            if kind == "synthetic":
                found = make_pairs(name, folders, args.out / "synthetic")
            else:
                found = (read_pairs if kind == "pairs" else read_photos)(name, folders)
            if left_out := find_left_out(folders, None if kind == "synthetic" else found):
                names = ", ".join(str(path) for path in left_out[:_MOST_NAMES])
                more = f" and {len(left_out) - _MOST_NAMES} more" if len(left_out) > _MOST_NAMES else ""
                tell(f"{name} is without {names}{more}: {_WHY[kind]}")
            pictures += choose(found, args.half, args.every, args.limit)
    if not pictures:
        raise ConfigError("there is nothing to measure on; give a test set by --pairs, --photos or --synthetic")
    return pictures, kinds


def _tell(text: str) -> None:
    say(f"adadiffsr: {text}", sys.stderr)


def _read_injections(args: argparse.Namespace, model: Model) -> dict[str, Pfj]:
    """The model's own as `pfj`, those that ship for the ablation, and those given."""
    shipped = {path.stem: path for path in (embedded_weights().parent / "ablation").glob("*.safetensors")}
    paths = {} if args.model else shipped
    injections = {} if model.pfj is None else {"pfj": model.pfj}
    where = model.device, model.dtype
    given = paths | _read_named("--pfj", args.pfj)
    return injections | {name: load_pfj(path, *where) for name, path in given.items()}


def _fingerprint(model: Model, injections: Mapping[str, Pfj]) -> dict[str, str]:
    """See `Method.fingerprint`."""
    networks = {"model": fingerprint_weights(model.unet) + fingerprint_weights(model.autoencoder)}
    networks |= {} if model.mmle is None else {"mmle": fingerprint_weights(model.mmle)}
    networks |= {name: fingerprint_weights(net) for name, net in injections.items()}
    machine = f"{model.device.type} {str(model.dtype).removeprefix('torch.')}"
    return networks | ({} if machine == "cpu float32" else {"machine": machine})


def _read_named(option: str, texts: list[str]) -> dict[str, Path]:
    """Each NAME=PATH of an option that may be given several times."""
    named: dict[str, Path] = {}
    for name, path in map(parse_named, texts):
        if name in named:
            raise ConfigError(f"{option} names {quoted(name, 80)} twice; give each a name of its own")
        named[name] = Path(path)
    return named


def _parse_seed(text: str) -> int:
    # Not int() of whatever it is: Python reads no more than 4,300 digits.
    if not text.isdecimal() or len(text) > len(str(_MOST_SEED)) or int(text) > _MOST_SEED:
        raise ConfigError(f"seeds must be whole numbers from 0 to {_MOST_SEED}, such as 0,1,2, got {quoted(text, 80)}")
    return int(text)
