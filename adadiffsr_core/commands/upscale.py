"""`adadiffsr upscale`: photographs to sharper, larger ones, with the embedded model or one of our architecture."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, ImageError
from ..files import follow_links
from ..memory import name_out_of_memory
from ..models.model import Model, embedded_weights, load_model
from ..photo.limits import MAX_PIXELS
from ..photo.reading import open_photo, read_photo
from ..photo.scales import plan_work
from ..pipeline import compare_tiles, plan_tiles, upscale
from ..sampling.rule import DtssConfig, Rule
from ..sampling.schedule import MAX_TIMESTEP
from ..settings import PRESETS, SamplingConfig
from ..text import quoted
from .arguments import add_arguments
from .banded import Banding, check_words, upscale_in_bands
from .interrupts import stop_if_asked
from .journal import History, Journal, fingerprint_run
from .naming import Source
from .options import choose_device, choose_dtype, set_threads
from .outputs import Outputs, describe_settings
from .plan import Draft, PhotoJob, Planner, draft_photo
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
    mask = None if args.mask is None else read_mask(args.mask)
    device = choose_device(args.device)
    model = load_model(args.model, device, choose_dtype(args.dtype, device))
    facts = {name: getattr(args, name) for name in ("scale", "size", "quality", "strip", "check")}
    # Neither device nor batch: a run may go on elsewhere.
    facts["settings"] = {name: value for name, value in config.to_dict().items() if name != "tile_batch"}
    run_print = fingerprint_run(facts, {"weights": args.model or embedded_weights(), "mask": args.mask})
    refused: list[BaseException] = []

    def refuse(error: BaseException, about: object) -> None:
        refused.append(error)
        complain(error, str(about))

    banding = Banding(args.bands, model.scales, device)
    jobs = _plan_jobs(args, banding, run_print, refuse)
    if jobs:
        _upscale_all(jobs, model, config, mask, args, refuse)
    return 2 if refused else 0


def sampling_config(args: argparse.Namespace) -> SamplingConfig:
    """The preset, with what the user set differently.

    Raises:
        ConfigError: a value is out of its range.
    """
    preset = PRESETS[args.preset]
    names = ("steps", "solver", "denoise", "merge", "tile_batch", "seed", "colour", "pfj_strength")
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


def read_mask(path: Path) -> Tensor:
    """A compute mask `[1,1,H,W]` in [0,1]: black is left untouched, mid-grey automatic, white gets every step.

    Where it is transparent it asks for nothing, as if there were no mask: automatic (decision D42).

    Raises:
        ImageError: the file cannot be read.
    """
    photo = read_photo(path)
    levels = photo.pixels.mean(dim=0)[None, None].clamp(0, 1)
    return levels if photo.alpha is None else torch.lerp(torch.full_like(levels, 0.5), levels, photo.alpha[None])


def _plan_jobs(args: argparse.Namespace, banding: Banding, run_print: str, refuse: Refuse) -> list[PhotoJob]:
    outputs = [Path(path) for path in (args.output, args.map, args.compare, args.report) if path is not None]
    sources = find_photos(args.inputs, refuse, is_recursive=args.recursive, left_out=outputs)
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
    names = planner.name(drafts)
    history = _open_history(args, planner.folder, run_print)
    jobs = []
    for draft, targets in zip(drafts, names, strict=True):
        try:
            record = history.look(draft.source.path, targets.paths)
            if record is None:
                say(f"{draft.source.path}: done before")
            else:
                jobs.append(replace(planner.plan(draft, targets), record=record))
        except REFUSALS as error:
            refuse(error, draft.source.path)
    return jobs


def _open_history(args: argparse.Namespace, folder: Path | None, run_print: str) -> History:
    """What is known of results that are there already: of files in a folder all, of one that the user named nothing."""
    goes_on = args.resume if args.resume is not None else folder is not None
    place = Path(args.output).parent if folder is None else folder
    journal = Journal(place, run_print) if goes_on else None
    return History(journal, keeps_others=folder is not None and not args.overwrite, makes_again=args.overwrite)


def _draft_photos(sources: Sequence[Source], args: argparse.Namespace, banding: Banding, refuse: Refuse) -> list[Draft]:
    drafts = []
    for source in sources:
        try:
            with name_out_of_memory():
                draft = draft_photo(source, args.scale, args.size, banding.is_for)
                if draft.in_bands:
                    check_words(args)
                drafts.append(draft)
        except REFUSALS as error:
            refuse(error, source.path)
    for draft in drafts:
        if any(page.has_damage for page in draft.pages):
            say(f"note: {draft.source.path} is damaged in places, which its decoder filled; look at it", sys.stderr)
    return drafts


def _upscale_all(
    jobs: list[PhotoJob],
    model: Model,
    config: SamplingConfig,
    mask: Tensor | None,
    args: argparse.Namespace,
    refuse: Refuse,
) -> None:
    tiles = [_count_tiles(job, model, config) for job in jobs]
    bar = ProgressBar(tiles, -(-config.steps // config.dtss.intervals[0]))
    try:
        for job, count in zip(jobs, tiles, strict=True):
            if not job.in_bands:  # whose bands begin one by one
                bar.begin(count)
            try:
                with name_out_of_memory():
                    _upscale_one(job, model, config, mask, args, bar)
            except REFUSALS as error:
                refuse(error, job.source)
            bar.end()
    finally:
        bar.close()


def _count_tiles(job: PhotoJob, model: Model, config: SamplingConfig) -> int:
    most = None if job.in_bands else MAX_PIXELS
    works = [plan_work(page.source_size, page.size, model.scales, most).size for page in job.pages]
    return sum(plan_tiles(model.sizes, work, config).count for work in works)


def _upscale_one(
    job: PhotoJob,
    model: Model,
    config: SamplingConfig,
    mask: Tensor | None,
    args: argparse.Namespace,
    bar: ProgressBar,
) -> None:
    began = time.monotonic()
    first = job.pages[0]
    note = plan_work(first.source_size, first.size, model.scales, None if job.in_bands else MAX_PIXELS).note
    if note and (mask is None or bool(mask.any())):
        say(f"note: {job.source}: {note}", sys.stderr)
    if job.in_bands:
        outputs = upscale_in_bands(job, model, config, args, bar)
    else:
        outputs = _upscale_pages(job, model, config, mask, args, bar)
    stop_if_asked()
    with job.record.told():
        outputs.write()
    _say_what_was_spent(job, outputs, time.monotonic() - began)


def _upscale_pages(
    job: PhotoJob,
    model: Model,
    config: SamplingConfig,
    mask: Tensor | None,
    args: argparse.Namespace,
    bar: ProgressBar,
) -> Outputs:
    """Make all files of a photograph that is held whole, page by page, and write none."""
    outputs = Outputs(job, args.quality, describe_settings(config, model))
    for page, photo in zip(job.pages, open_photo(job.source).read_pages()):  # noqa: B905 (some are not asked for)
        kept = replace(photo, notes=photo.notes.strip()) if args.strip else photo
        planes = photo.pixels if photo.alpha is None else torch.cat([photo.pixels, photo.alpha])
        result = upscale(model, planes[None], page.size, config, mask=mask, on_step=bar.update)
        stop_if_asked()
        checked = None
        if args.check:
            truth = upscale(
                model, planes[None], page.size, config.every_step(), mask=mask, on_step=lambda _: stop_if_asked()
            )
            checked = compare_tiles(result, truth.image)
        outputs.add(kept, page, result, checked)
        bar.turn_page()
    if len(outputs.reports) < len(job.pages):
        raise ImageError(f"{job.source} was changed while it was worked on; start again")
    return outputs


def _say_what_was_spent(job: PhotoJob, outputs: Outputs, seconds: float) -> None:
    spent, full = (sum(report[name] for report in outputs.reports) for name in ("nfe", "full_nfe"))
    saved = f"{100 * (1 - spent / full):.0f} % saved"
    say(f"{job.source}: {spent} of {full} evaluations spent ({saved}), {seconds:.1f} s")
    if "checked_db" in outputs.reports[0]:
        checked = [value for report in outputs.reports for value in report["checked_db"] if value is not None]
        near = (
            f"{sum(checked) / len(checked):.1f} dB in the mean, {min(checked):.1f} dB at worst" if checked else "equal"
        )
        say(f"{job.source}: tiles beside all steps: {near}")
