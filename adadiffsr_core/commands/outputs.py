"""What `adadiffsr upscale` writes: the result in its photograph's kind, the pictures about it, and the report."""

import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..enlarging import enlarge
from ..files import whole_file
from ..images import Photo, write_photo
from ..photo import levels_to_photo
from ..pictures import draw_comparison, draw_region_map
from ..pipeline import Model, SamplingConfig, Upscaled
from ..regions import report_to_regions
from ..transparency import fill_hidden, show_over_grey
from .plan import PhotoJob, Size


def write_outputs(job: PhotoJob, photo: Photo, result: Upscaled, quality: int, facts: dict[str, Any]) -> None:
    """Write every file that the job asks for, each whole or not at all.

    Args:
        job: names the files.
        photo: what was read.
        result: what became of it.
        quality: of JPEG and WebP.
        facts: for the report, besides its own.

    Raises:
        ImageError: a picture cannot be written.
        OSError: the report cannot.
    """
    image, targets = result.image[0], job.targets
    done = _like(photo, image, job.size)
    write_photo(done, targets.result, quality)
    seen = show_over_grey(image, done.alpha)
    if targets.map is not None:
        levels = draw_region_map(seen, report_to_regions(result.report, result.latent_px))
        write_photo(levels_to_photo(levels, has_alpha=False), targets.map, quality)
    if targets.compare is not None:
        before = show_over_grey(enlarge(_visible(photo)[None], job.size)[0], done.alpha)
        levels = draw_comparison([("input, bicubic", before), ("result", seen)])
        write_photo(levels_to_photo(levels, has_alpha=False), targets.compare, quality)
    if targets.report is not None:
        text = json.dumps(_describe(job) | facts | _describe_work(result) | result.report.to_dict(), indent=1)
        with whole_file(targets.report) as partial:
            partial.write_text(text + "\n", encoding="utf-8")


def describe_settings(config: SamplingConfig, model: Model) -> dict[str, Any]:
    """What the results depend on besides the photograph, as plain values."""
    return {
        "settings": config.to_dict(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _describe(job: PhotoJob) -> dict[str, Any]:
    return {
        "input": str(job.source),
        "output": str(job.targets.result),
        "input_size_px": job.source_size[::-1],
        "output_size_px": job.size[::-1],
    }


def _describe_work(result: Upscaled) -> dict[str, Any]:
    return {"latent_px": result.factor, "work_size_px": result.work_size[::-1], "note": result.note}


def _visible(photo: Photo) -> Tensor:
    return photo.pixels if photo.alpha is None else fill_hidden(photo.pixels[None], photo.alpha[None])[0]


def _like(photo: Photo, pixels: Tensor, size: Size) -> Photo:
    """A photo of these pixels, and in all else like `photo`."""
    alpha = photo.alpha
    if alpha is not None:
        # Interpolated ones may come out a little below one, and what was opaque must stay so.
        alpha = torch.ones(1, *size) if photo.is_opaque else enlarge(alpha[None], size)[0]
    return replace(photo, pixels=pixels, alpha=alpha, path=None)
