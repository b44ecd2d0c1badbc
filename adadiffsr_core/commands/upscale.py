"""`adadiffsr upscale`: photographs to sharper, larger ones, with the embedded model or one of our architecture."""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..controller import DtssConfig
from ..errors import ConfigError
from ..images import Photo, read_photo, write_photo
from ..photo import levels_to_photo
from ..pictures import draw_comparison, draw_region_map
from ..pipeline import (
    PRESETS,
    Model,
    SamplingConfig,
    Upscaled,
    embedded_weights,
    enlarge,
    load_model,
    plan_grid,
    upscale,
)
from ..regions import report_to_regions
from ..schedule import Schedule
from ..training.state import whole_file
from .options import add_arguments, choose_device, choose_dtype, set_threads
from .plan import PhotoJob, Planner, find_photos, target_size
from .terminal import REFUSALS, ProgressBar, complain, say


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
        raise ConfigError(f"--quality goes from 1 to 100, got {args.quality}")
    set_threads(args.threads)
    mask = None if args.mask is None else read_mask(args.mask)
    device = choose_device(args.device)
    model = load_model(args.model, device, choose_dtype(args.dtype, device))
    refused: list[BaseException] = []

    def refuse(error: BaseException, about: object) -> None:
        refused.append(error)
        complain(error, str(about))

    jobs = _plan_jobs(args, refuse)
    if jobs:
        _upscale_all(jobs, model, config, mask, args, refuse)
    return 2 if refused else 0


def sampling_config(args: argparse.Namespace) -> SamplingConfig:
    """The preset, with what the user set differently.

    Raises:
        ConfigError: a value is out of its range.
    """
    preset = PRESETS[args.preset]
    names = ("steps", "solver", "denoise", "merge", "tile_batch", "seed", "colour")
    changes = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    rule: dict[str, Any] = {
        name: getattr(args, name) for name in ("intervals", "gain_threshold") if getattr(args, name) is not None
    }
    dtss: DtssConfig = replace(preset.dtss, **rule, early_exit=preset.dtss.early_exit and not args.no_early_exit)
    config = replace(preset, **changes, dtss=dtss)
    # Built again for each photograph; built here so that a wrong number is refused before any is read.
    Schedule().build_sigmas(config.steps, config.spacing, config.denoise)
    if not 0 <= config.seed < 2**64:
        raise ConfigError(f"--seed goes from 0 to {2**64 - 1}, got {config.seed}")
    return config if args.uniform is None else config.uniform(args.uniform)


def read_mask(path: Path) -> Tensor:
    """A compute mask `[1,1,H,W]` in [0,1]: black is left untouched, mid-grey automatic, white gets every step.

    Raises:
        ImageError: the file cannot be read.
    """
    return read_photo(path).pixels.mean(dim=0)[None, None].clamp(0, 1)


def _plan_jobs(args: argparse.Namespace, refuse: Any) -> list[PhotoJob]:
    sources = find_photos(args.inputs, refuse)
    protected = [*sources, *(path for path in (args.mask, args.model or embedded_weights()) if path is not None)]
    is_many = len(args.inputs) > 1 or sources != [Path(args.inputs[0])]
    inputs = {path.resolve(): path for path in protected}
    planner = Planner(args.output, args.map, args.compare, args.report, is_many, inputs)
    jobs = []
    for source in sources:
        try:
            photo = read_photo(source)
            size = target_size((photo.pixels.shape[1], photo.pixels.shape[2]), args.scale, args.size)
            jobs.append(planner.plan(source, photo, size))
        except REFUSALS as error:
            refuse(error, source)
    return jobs


def _upscale_all(
    jobs: list[PhotoJob],
    model: Model,
    config: SamplingConfig,
    mask: Tensor | None,
    args: argparse.Namespace,
    refuse: Any,
) -> None:
    tiles = [_count_tiles(job, model, config) for job in jobs]
    bar = ProgressBar(tiles, -(-config.steps // config.dtss.intervals[0]))
    try:
        for job, count in zip(jobs, tiles, strict=True):
            bar.begin(count)
            try:
                _upscale_one(job, model, config, mask, args, bar)
            except REFUSALS as error:
                refuse(error, job.source)
            bar.end()
    finally:
        bar.close()


def _count_tiles(job: PhotoJob, model: Model, config: SamplingConfig) -> int:
    factor = model.autoencoder.config.factor
    height, width = (-(-side // factor) for side in job.size)
    return plan_grid(height, width, config, model.unet.config.multiple).count


def _upscale_one(
    job: PhotoJob,
    model: Model,
    config: SamplingConfig,
    mask: Tensor | None,
    args: argparse.Namespace,
    bar: ProgressBar,
) -> None:
    began = time.monotonic()
    photo = read_photo(job.source)
    result = upscale(model, photo.pixels[None], job.size, config, mask=mask, on_step=bar.update)
    write_photo(_like(photo, result.image[0], job.size), job.targets.result, args.quality)
    _write_pictures(job, photo, result, args.quality)
    seconds = time.monotonic() - began
    if job.targets.report is not None:
        _write_report(job.targets.report, _facts(job, result, config, model, seconds))
    spent, full = result.report.nfe, result.report.full_nfe
    saved = f"{100 * result.report.saved:.0f} % saved"
    say(f"{job.source}: {spent} of {full} evaluations spent ({saved}), {seconds:.1f} s")


def _like(photo: Photo, pixels: Tensor, size: tuple[int, int]) -> Photo:
    """A photo of these pixels, and in all else like `photo`."""
    alpha = photo.alpha
    if alpha is not None:
        # Interpolated ones may come out a little below one, and what was opaque must stay so.
        alpha = torch.ones(1, *size) if photo.is_opaque else enlarge(alpha[None], size)[0]
    return replace(photo, pixels=pixels, alpha=alpha, path=None)


def _write_pictures(job: PhotoJob, photo: Photo, result: Upscaled, quality: int) -> None:
    image = result.image[0]
    if job.targets.map is not None:
        levels = draw_region_map(image, report_to_regions(result.report, result.factor))
        write_photo(levels_to_photo(levels, has_alpha=False), job.targets.map, quality)
    if job.targets.compare is not None:
        before = enlarge(photo.pixels[None], job.size)[0]
        levels = draw_comparison([("input, bicubic", before), ("result", image)])
        write_photo(levels_to_photo(levels, has_alpha=False), job.targets.compare, quality)


def _facts(job: PhotoJob, result: Upscaled, config: SamplingConfig, model: Model, seconds: float) -> dict[str, Any]:
    return {
        "input": str(job.source),
        "output": str(job.targets.result),
        "input_size_px": job.source_size[::-1],
        "output_size_px": job.size[::-1],
        "latent_px": result.factor,
        "settings": config.to_dict(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "total_seconds": round(seconds, 3),
        **result.report.to_dict(),
    }


def _write_report(path: Path, facts: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
