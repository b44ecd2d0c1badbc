"""What `adadiffsr upscale` writes: the result in its photograph's kind, the pictures about it, and the report."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..drawing.pictures import draw_comparison, draw_region_map
from ..drawing.primitives import fit_sheet
from ..drawing.regions import report_to_regions
from ..errors import AdaDiffSRError, ImageError
from ..files import whole_file
from ..models.model import Model
from ..photo.enlarging import enlarge
from ..photo.picture_rows import PictureRows
from ..photo.reading import open_photo
from ..photo.scales import Size, Work
from ..photo.transparency import fill_hidden, show_over_grey
from ..photo.value import Photo, levels_to_photo
from ..photo.writing import WRITABLE, encode_photo, holds_all, write_stills
from ..pipeline import Upscaled
from ..plain_json import parse_json
from ..sampling.report import RunReport
from ..settings import SamplingConfig
from .drafts import Page
from .kept import KeptBands, remove_others
from .plan import PhotoJob
from .terminal import REFUSALS, describe

_SPARE_PX = 64  # below the first of several pictures: the legends of others may take a line more


@dataclass
class Outputs:
    """Collects what becomes of a photograph, frame by frame or page by page, and then writes every file.

    Only encoded pictures are held, as no memory holds the pixels of long animations.

    Attributes:
        job: names the files.
        quality: of JPEG and WebP.
        facts: for the report, besides its own.
        reports: of the pages so far, as plain values.
        notes: what their runs' reports say that nobody would expect, each once.
        seconds: that it took to make them.
        kept: what they are made of and lies on the disk, if anything does.
    """

    job: PhotoJob
    quality: int
    facts: dict[str, Any]
    reports: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    kept: KeptBands | None = None
    _stills: dict[Path, list[bytes]] = field(default_factory=dict)
    _drawn: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _writers: dict[Path, Callable[[Path], None]] = field(default_factory=dict)

    def add(self, photo: Photo, page: Page, result: Upscaled, checked: Sequence[float] | None = None) -> None:
        """Take the next page.

        Args:
            photo: what was read.
            page: its sizes.
            result: what became of it.
            checked: how near each tile is to what all steps give, dB, where that was asked for.

        Raises:
            ImageError: a picture cannot be encoded.
        """
        image, targets = result.image[0], self.job.targets
        done = _like(photo, image, page.size)
        self._keep(targets.result, done)
        seen = show_over_grey(image, done.alpha)
        if targets.map is not None:
            self._draw(targets.map, draw_region_map(seen, report_to_regions(result.report, result.latent_px)))
        if targets.compare is not None:
            visible = photo.pixels[None] if photo.alpha is None else fill_hidden(photo.pixels[None], photo.alpha[None])
            before = show_over_grey(enlarge(visible, page.size)[0], done.alpha)
            self._draw(targets.compare, draw_comparison([("input, bicubic", before), ("result", seen)]))
        about = _describe_sizes(page, result.factor, result.work_size)
        if checked is not None:
            about["checked_db"] = [None if math.isinf(value) else round(value, 2) for value in checked]
        self._report(about, result.report, result.note)

    def add_bands(self, page: Page, work: Work, factor: int, report: RunReport) -> None:
        """Take a picture that was made in bands; what is drawn of it is drawn of its preview.

        Args:
            page: its sizes.
            work: the size that it was worked at.
            factor: px per latent px, there.
            report: of all bands.
        """
        self._report(_describe_sizes(page, factor, work.size), report, work.note)

    def draw_bands(
        self, picture: PictureRows, preview: Tensor, latent_px: tuple[float, float], report: RunReport
    ) -> None:
        """Draw what is asked for of a picture that was made in bands.

        Args:
            picture: what was read.
            preview: the result, reduced, `[3,h,w]`.
            latent_px: how many of its px a latent pixel is high and wide.
            report: of all bands.
        """
        targets, size = self.job.targets, (preview.shape[-2], preview.shape[-1])
        if targets.map is not None:
            self._draw(targets.map, draw_region_map(preview, report_to_regions(report, latent_px)))
        if targets.compare is not None:
            before = enlarge(picture.preview(max(size))[None], size)[0]
            self._draw(targets.compare, draw_comparison([("input, bicubic", before), ("result", preview)]))

    def write_later(self, path: Path, write: Callable[[Path], None]) -> None:
        """Have a file written by its own means, when all are."""
        self._writers[path] = write

    def clear(self) -> None:
        """All files are there, and what they were made of is needed no more."""
        if self.kept is not None:
            remove_others(self.job.targets.result, self.kept)
            self.kept.remove()

    def _report(self, about: dict[str, Any], report: RunReport, note: str) -> None:
        if report.note and report.note not in self.notes:
            self.notes.append(report.note)
        note = "; ".join(words for words in (note, report.note) if words)
        self.reports.append(about | report.to_dict() | {"note": note})

    def write(self) -> None:
        """Write every file, each whole or not at all; one that cannot be written does not take the others with it.

        Raises:
            ImageError: several could not be written; it names them.
            AdaDiffSRError: one could not.
            OSError: likewise.
        """
        errors: dict[Path, Exception] = {}
        for path in self.job.targets.paths:
            try:
                self._write_one(path)
            except REFUSALS as error:
                errors[path] = error
        if not errors:
            return
        first = next(iter(errors.values()))
        if len(errors) == 1:
            raise first
        raise ImageError(f"{', '.join(map(str, errors))} are missing: {describe(first)}") from first

    def _write_one(self, path: Path) -> None:
        if path in self._writers:
            self._writers[path](path)
            return
        if path in self._stills:
            write_stills(self._stills[path], path, self.job.motion, self._drawn.get(path, self.job.pages[0].size))
            return
        with whole_file(path) as partial:
            partial.write_text(json.dumps(self._describe(), indent=1) + "\n", encoding="utf-8")

    def _keep(self, path: Path, photo: Photo) -> None:
        stills = self._stills.setdefault(path, [])
        if not stills or holds_all(path, len(self.job.pages), self.job.motion):
            stills.append(encode_photo(photo, path, self.quality))

    def _draw(self, path: Path, levels: NDArray[np.uint8]) -> None:
        """Frames of one file have one size, the first one's and a little more."""
        if self.job.motion is not None and len(self.job.pages) > 1:
            height, width = self._drawn.setdefault(path, (levels.shape[0] + _SPARE_PX, levels.shape[1]))
            levels = fit_sheet(levels, height, width)
        self._keep(path, levels_to_photo(levels, has_alpha=False))

    def _describe(self) -> dict[str, Any]:
        """One page's report is that of the photograph; several are listed, and summed up."""
        facts = {"input": str(self.job.source), "output": str(self.job.targets.result)} | self.facts
        if len(self.reports) == 1:
            return facts | self.reports[0]
        sums = {name: sum(report[name] for report in self.reports) for name in ("nfe", "full_nfe")}
        return facts | sums | {"pages": self.reports}


def is_whole(path: Path) -> bool:
    """Whether a file that is there can be read to its end as what it was written as: a picture, or a report."""
    try:
        if path.suffix.lower() not in WRITABLE:
            parse_json(path.read_text(encoding="utf-8"))
            return True
        file = open_photo(path)
        if (rows := file.open_rows()) is not None:
            return not rows.look_through()
        return not any(page.has_damage for page in file.read_pages())
    except (AdaDiffSRError, OSError, ValueError):
        return False


def describe_settings(config: SamplingConfig, model: Model) -> dict[str, Any]:
    """What the results depend on besides the photograph, as plain values."""
    return {
        "settings": config.to_dict(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _describe_sizes(page: Page, factor: int, work_size: Size) -> dict[str, Any]:
    return {
        "input_size_px": page.source_size[::-1],
        "output_size_px": page.size[::-1],
        "latent_px": factor,
        "work_size_px": work_size[::-1],
    }


def _like(photo: Photo, pixels: Tensor, size: Size) -> Photo:
    """A photo of these pixels, and in all else like `photo`."""
    alpha = photo.alpha
    if alpha is not None:
        # Interpolated ones may come out a little below one, and what was opaque must stay so.
        alpha = torch.ones(1, *size) if photo.is_opaque else enlarge(alpha[None], size)[0]
    return replace(photo, pixels=pixels, alpha=alpha, path=None)
