"""What becomes of one photograph: made by whoever has the networks, written and told where the command was given."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ImageError
from ..models.model import Model
from ..photo.reading import PhotoFile
from ..photo.scales import Scales, plan_work
from ..pipeline import compare_tiles, plan_tiles, upscale
from ..sampling.config import LatentSizes
from ..sampling.turn import Progress
from ..settings import SamplingConfig
from .interrupts import stop_if_asked
from .outputs import Outputs, describe_settings
from .plan import PhotoJob
from .terminal import say


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for, for every photograph of a run.

    Attributes:
        config: how they are sampled.
        mask: compute mask `[1,1,H,W]`; None if there is none, or no picture that is held whole.
        quality: of JPEG and WebP.
        check: whether all steps are taken too, to compare.
        strip: whether notes are left out.
    """

    config: SamplingConfig
    mask: Tensor | None
    quality: int
    check: bool
    strip: bool


def count_tiles(job: PhotoJob, scales: Scales, sizes: LatentSizes, config: SamplingConfig) -> int:
    """Tiles of all frames or pages that are made."""
    works = [plan_work(page.source_size, page.size, scales, job.most_pixels).size for page in job.pages]
    return sum(plan_tiles(sizes, work, config).count for work in works)


def tell_scale(job: PhotoJob, scales: Scales, is_left: bool) -> str:
    """What there is to say of a photograph's scale before it is made; empty if nothing, or if nothing is restored."""
    first = job.pages[0]
    note = plan_work(first.source_size, first.size, scales, job.most_pixels).note
    return f"note: {job.source}: {note}" if note and not is_left else ""


def make_photo(
    job: PhotoJob,
    file: PhotoFile,
    model: Model,
    order: Order,
    on_step: Callable[[Progress], None] = lambda progress: None,
    on_page: Callable[[], None] = lambda: None,
) -> Outputs:
    """Make everything that is asked for of a photograph, and write nothing.

    Args:
        job: what is made.
        file: the photograph.
        model: the networks.
        order: see `Order`.
        on_step: told after each turn of the sampler.
        on_page: told after each frame or page.

    Raises:
        AdaDiffSRError: the file is damaged or was changed, or a result cannot be encoded.
    """
    began = time.monotonic()
    config, mask = order.config, order.mask
    outputs = Outputs(job, order.quality, describe_settings(config, model))
    for page, photo in zip(job.pages, file.read_pages()):  # noqa: B905 (some are not asked for)
        kept = replace(photo, notes=photo.notes.strip()) if order.strip else photo
        planes = photo.pixels if photo.alpha is None else torch.cat([photo.pixels, photo.alpha])
        result = upscale(model, planes[None], page.size, config, mask=mask, on_step=on_step)
        stop_if_asked()
        checked = None
        if order.check:
            truth = upscale(
                model, planes[None], page.size, config.every_step(), mask=mask, on_step=lambda _: stop_if_asked()
            )
            checked = compare_tiles(result, truth.image)
        outputs.add(kept, page, result, checked)
        on_page()
    if len(outputs.reports) < len(job.pages):
        raise ImageError(f"{job.source} was changed while it was worked on; start again")
    outputs.seconds = time.monotonic() - began
    return outputs


def count_spent(outputs: Outputs) -> tuple[int, int]:
    """Evaluations that were spent, and those of all steps."""
    spent, full = (sum(report[name] for report in outputs.reports) for name in ("nfe", "full_nfe"))
    return spent, full


def finish_photo(outputs: Outputs) -> None:
    """Write a photograph's files, each whole or not at all, tell the journal, and say what was spent.

    Raises:
        AdaDiffSRError: a file cannot be written.
        OSError: likewise.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    job, reports = outputs.job, outputs.reports
    try:
        stop_if_asked()
        with job.record.told():
            outputs.write()
    except BaseException:
        if outputs.kept is not None:
            outputs.kept.close()
        raise
    outputs.clear()
    spent, full = count_spent(outputs)
    saved = f"{100 * (1 - spent / full):.0f} % saved"
    say(f"{job.source}: {spent} of {full} evaluations spent ({saved}), {outputs.seconds:.1f} s")
    for note in outputs.notes:
        say(f"note: {job.source}: {note}", sys.stderr)
    if any("checked_db" in report for report in reports):
        checked = [value for report in reports for value in report["checked_db"] if value is not None]
        near = (
            f"{sum(checked) / len(checked):.1f} dB in the mean, {min(checked):.1f} dB at worst" if checked else "equal"
        )
        say(f"{job.source}: tiles beside all steps: {near}")
