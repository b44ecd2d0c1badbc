"""`adadiffsr upscale`: photographs to sharper, larger ones, with the embedded model or one of our architecture."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..cluster.joining import Cluster, find_cluster
from ..errors import ConfigError
from ..files import follow_links
from ..memory import name_out_of_memory
from ..models.model import Model, embedded_weights, load_model
from ..photo.reading import open_photo
from ..photo.writing import WRITABLE
from ..sampling.rule import DtssConfig, Rule
from ..sampling.schedule import MAX_TIMESTEP
from ..settings import PRESETS, SamplingConfig
from ..text import quoted
from .arguments import add_arguments
from .banded import Tray, fill_here, make_in_bands
from .banding import Banding, check_words
from .cluster import Equipment, PhotoUnit, Workers, check_device, fingerprint_code
from .doubts import tell_damage
from .drafts import Draft, draft_photo
from .journal import History, Journal, find_results, fingerprint_run
from .kept import remove_others
from .making import Order, count_spent, count_tiles, finish_photo, make_photo, tell_scale
from .masks import open_mask
from .naming import Source
from .options import choose_device, choose_dtype, set_threads
from .outputs import Outputs, is_whole
from .plan import PhotoJob, Planner
from .sources import find_photos
from .terminal import REFUSALS, ProgressBar, complain, say

Refuse = Callable[[BaseException, object], None]


# What only one rule goes by.
_SETTINGS: dict[Rule, tuple[str, ...]] = {
    "paper": ("intervals", "gain_threshold", "early_exit", "visit_last"),
    "bounded": ("likeness", "budget"),
}


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "upscale", help="make photographs sharper and larger", description=__doc__, allow_abbrev=False
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Upscale every photograph that can be; returns 0, or 2 if one was refused.

    Raises:
        AdaDiffSRError: nothing can be done: a setting, the mask, the device or the weights are wrong.
    """
    config = sampling_config(args)
    if not 1 <= args.quality <= 100:
        raise ConfigError(f"--quality goes from 1 to 100, got {quoted(args.quality, 80)}")
    set_threads(args.threads)
    mask = None if args.mask is None else open_mask(args.mask)
    cluster = _find_cluster(args)
    # Of a cluster this process only knows what its model is like.
    device = choose_device(args.device if cluster is None else "cpu")
    model = load_model(args.model, device, choose_dtype(args.dtype if cluster is None else "float32", device))
    facts = {name: getattr(args, name) for name in ("scale", "size", "quality", "strip", "check")}
    # Neither device nor batch: a run may go on elsewhere.
    facts["settings"] = {name: value for name, value in config.to_dict().items() if name != "tile_batch"}
    run_print = fingerprint_run(facts, {"weights": args.model or embedded_weights(), "mask": args.mask})
    refused: list[BaseException] = []

    def refuse(error: BaseException, about: object) -> None:
        refused.append(error)
        complain(error, str(about))

    place = choose_device(args.device) if cluster is None or cluster.is_own else None
    banding = Banding(args.bands, model.scales, place, None if mask is None else mask.rows.size[1])
    jobs = _plan_jobs(args, banding, run_print, refuse)
    levels = None if mask is None or all(job.in_bands for job in jobs) else mask.read_whole()
    order = Order(config=config, mask=levels, quality=args.quality, check=args.check, strip=args.strip)
    tray = Tray(args.model or embedded_weights(), is_new=args.overwrite or args.resume is False, mask=mask)
    work = _Work(jobs, model, order, tray, refuse)
    if jobs and cluster is None:
        _upscale_here(work)
    elif jobs and cluster is not None:
        _upscale_there(work, cluster, args)
    return 2 if refused else 0


def _find_cluster(args: argparse.Namespace) -> Cluster | None:
    if args.cluster is None:
        return None
    check_device(args.device)
    return find_cluster(args.cluster)


def sampling_config(args: argparse.Namespace) -> SamplingConfig:
    """The preset, with what the user set differently.

    Raises:
        ConfigError: a value is out of its range.
    """
    preset = PRESETS[args.preset]
    names = (
        "steps", "solver", "denoise", "tile_size", "overlap", "merge", "tile_batch", "seed", "colour", "pfj_strength"
    )  # fmt: skip
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = replace(preset, **changes, dtss=_choose_rule(preset.dtss, args))
    if args.uniform is None:
        return config
    if not 1 <= args.uniform <= MAX_TIMESTEP:
        raise ConfigError(f"--uniform must be from 1 to {MAX_TIMESTEP}, got {quoted(args.uniform, 80)}")
    return config.uniform(args.uniform)


def _choose_rule(preset: DtssConfig, args: argparse.Namespace) -> DtssConfig:
    """Whoever sets what only one rule goes by means that rule.

    Raises:
        ConfigError: it is of another rule than what is asked for beside it.
    """
    given = {
        rule: {name: getattr(args, name) for name in names if getattr(args, name) is not None}
        for rule, names in _SETTINGS.items()
    }
    rule: Rule | None = args.rule or ("paper" if given["paper"] or args.uniform is not None else None)
    for other, values in given.items():
        if values and rule not in (None, other):
            option = next(iter(values)).replace("_", "-")
            raise ConfigError(f"--{option} is of the rule {other} and plays no part in the rule {rule}; leave it out")
        rule = rule or (other if values else None)
    return replace(preset, rule=rule or preset.rule, **given["paper"], **given["bounded"])


def _plan_jobs(args: argparse.Namespace, banding: Banding, run_print: str, refuse: Refuse) -> list[PhotoJob]:
    outputs = [Path(path) for path in (args.output, args.map, args.compare, args.report) if path is not None]
    left_out = [*outputs, *find_results(Path(args.output))]
    sources = find_photos(args.inputs, refuse, is_recursive=args.recursive, left_out=left_out)
    paths = [source.path for source in sources]
    protected = [*paths, *(path for path in (args.mask, args.model or embedded_weights()) if path is not None)]
    drafts = _draft_photos(sources, args, banding, refuse)
    if not drafts:
        return []
    planner = Planner(
        args.output,
        args.map,
        args.compare,
        args.report,
        is_many=len(args.inputs) > 1 or paths != [Path(args.inputs[0])],
        inputs={follow_links(path): path for path in protected},
        device=banding.device,
        tell=lambda text: say(f"adadiffsr: {text}", sys.stderr),
        ending=None if args.format is None else f".{args.format}",
    )
    _check_format(args, planner.folder)
    history = _open_history(args, planner.folder, run_print)
    names = planner.name(drafts, history.journal)
    jobs = []
    for draft, targets in zip(drafts, names, strict=True):
        try:
            planner.spare_inputs(targets)
            record = history.look(draft.source.path, targets.paths)
            if record is None:
                say(f"{draft.source.path}: done before")
                if draft.in_bands:
                    remove_others(targets.result)
            else:
                jobs.append(replace(planner.plan(draft, targets), record=record))
        except REFUSALS as error:
            refuse(error, draft.source.path)
    return jobs


def _check_format(args: argparse.Namespace, folder: Path | None) -> None:
    """Refuse a kind of results beside a file's name that says another.

    Raises:
        ConfigError: there are both.
    """
    kind = None if args.format is None or folder is not None else WRITABLE[f".{args.format}"]
    if kind is not None and WRITABLE.get(Path(args.output).suffix.lower(), kind) != kind:
        raise ConfigError(
            f"--format {args.format} is for results in a folder, and {args.output} says another kind; leave one out"
        )


def _open_history(args: argparse.Namespace, folder: Path | None, run_print: str) -> History:
    """What is known of results that are there already: of files in a folder all, of one that the user named nothing."""
    goes_on = args.resume if args.resume is not None else folder is not None
    place = Path(args.output).parent if folder is None else folder
    journal = Journal(place, run_print) if goes_on else None
    keeps_others = folder is not None and not args.overwrite
    return History(journal, keeps_others=keeps_others, makes_again=args.overwrite, is_whole=is_whole)


def _draft_photos(sources: Sequence[Source], args: argparse.Namespace, banding: Banding, refuse: Refuse) -> list[Draft]:
    drafts = []
    for source in sources:
        try:
            with name_out_of_memory():
                draft = draft_photo(source, args.scale, args.size, banding.is_for)
                if draft.in_bands:
                    check_words(args)
                    banding.check(draft.pages[0])
                drafts.append(draft)
        except REFUSALS as error:
            refuse(error, source.path)
    for draft in drafts:
        tell_damage(draft.source.path, any(page.has_damage for page in draft.pages))
    return drafts


@dataclass(frozen=True)
class _Work:
    """What is to be upscaled, how, and who is told what could not be."""

    jobs: Sequence[PhotoJob]
    model: Model
    order: Order
    tray: Tray
    refuse: Refuse


def _upscale_here(work: _Work) -> None:
    jobs, model, order, tray = work.jobs, work.model, work.order, work.tray
    tiles = [count_tiles(job, model.scales, model.sizes, order.config) for job in jobs]
    bar = _start_bar(tiles, order)
    try:
        for job, count in zip(jobs, tiles, strict=True):
            if not job.in_bands:  # whose bands begin one by one
                bar.begin(count)
            try:
                with name_out_of_memory():
                    _tell(tell_scale(job, model.scales, tray.leaves_all))
                    if job.in_bands:
                        outputs = make_in_bands(job, model, order, tray, bar, fill_here)
                    else:
                        file = open_photo(job.source, job.read())
                        outputs = make_photo(job, file, model, order, bar.update, bar.turn_page)
                    finish_photo(outputs)
            except REFUSALS as error:
                work.refuse(error, job.source)
            bar.end()
    finally:
        bar.close()


def _upscale_there(work: _Work, cluster: Cluster, args: argparse.Namespace) -> None:
    jobs, model, order, tray = work.jobs, work.model, work.order, work.tray
    tiles = {job.source: count_tiles(job, model.scales, model.sizes, order.config) for job in jobs}
    scales = model.scales
    weights = None if args.model is None else args.model.read_bytes()
    with cluster.join(args.device, args.threads) as (ray, seats):
        equipment = Equipment(order=order, seats=seats, dtype=args.dtype, weights=weights, code=fingerprint_code())
        bar = _start_bar(list(tiles.values()), order)
        units = [PhotoUnit(job, tiles[job.source]) for job in jobs if not job.in_bands]
        large = [job for job in jobs if job.in_bands]
        workers = Workers(ray, seats, equipment, None if large else len(units), lambda text: _tell(f"note: {text}"))

        def settle(job: PhotoJob, outcome: Callable[[], Outputs]) -> Outputs | None:
            try:
                with name_out_of_memory():
                    _tell(tell_scale(job, scales, tray.leaves_all))
                    outputs = outcome()
                    finish_photo(outputs)
                    return outputs
            except REFUSALS as error:
                work.refuse(error, job.source)
                return None

        try:
            for unit, outcome in workers.make_photos(units):
                made = settle(unit.job, outcome)
                bar.take(unit.tiles, 0 if made is None else count_spent(made)[0])
            for job in large:
                settle(job, partial(make_in_bands, job, model, order, tray, bar, workers.fill))
        finally:
            bar.close()


def _start_bar(tiles: Sequence[int], order: Order) -> ProgressBar:
    return ProgressBar(tiles, -(-order.config.steps // order.config.dtss.intervals[0]))


def _tell(text: str) -> None:
    """Above the bar, if there is anything to tell."""
    if text:
        say(text, sys.stderr)
