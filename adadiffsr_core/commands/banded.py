"""Pictures that do not fit into memory: made in bands, which stay on disk when a run is stopped, and gone on with.

Source: decision D74.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import ImageError
from ..files import FileState, fingerprint_content, look_at, name_full_disk
from ..models.model import Model
from ..photo.picture_rows import PictureRows
from ..photo.reading import open_photo
from ..photo.scales import Size
from ..photo.spool import Spool
from ..sampling.report import RunReport, TileReport, join_reports
from ..streaming.bands import Bands
from ..streaming.layout import Rows
from ..streaming.masked import MaskRows, count_touched
from ..streaming.stream import Stream, Watch
from .interrupts import stop_if_asked
from .journal import fingerprint_run
from .kept import KeptBands
from .making import Order
from .masks import MaskFile
from .outputs import Outputs, describe_settings
from .plan import PhotoJob
from .resources import bands_bytes
from .terminal import REFUSALS, ProgressBar, say
from .timing import describe_bands

_PREVIEW_PX = 3072  # long side of what is drawn of a picture


@dataclass(frozen=True)
class Tray:
    """What rows are made by besides the settings, and where those of earlier runs are looked for.

    Attributes:
        weights: the model's file.
        is_new: whether there shall be no earlier ones.
        mask: compute mask, or None.
    """

    weights: Path
    is_new: bool
    mask: MaskFile | None = None

    @property
    def leaves_all(self) -> bool:
        """Whether the mask is black, so that nothing is restored."""
        return self.mask is not None and self.mask.is_black


@dataclass(frozen=True)
class Filling:
    """A picture whose rows are to be made.

    Attributes:
        bands: how.
        picture: the photograph.
        spool: where the rows go.
        kept: is told where evaluations went.
        first: of `bands.result_rows`, that is not there yet.
        bar: of which the picture's tiles are the next.
        mask: compute mask, or None.
    """

    bands: Bands
    picture: PictureRows
    spool: Spool
    kept: KeptBands
    first: int
    bar: ProgressBar
    mask: MaskRows | None

    def announce(self, *, is_timed: bool = False) -> None:
        """Say before the work how much memory, and how many evaluations, it takes; and how long, if that can be told.

        Raises:
            ImageError: the mask is damaged.
        """
        bands, mask, top = self.bands, self.mask, self.bands.result_rows[self.first][0]
        needed = bands_bytes(bands.work.size[1], None if mask is None else mask.size[1])
        touched = bands.grid.count if mask is None else count_touched(bands, mask)
        say(f"{self.picture.path}: {describe_bands(bands, top, needed, touched, is_timed=is_timed)}")


def make_in_bands(
    job: PhotoJob, model: Model, order: Order, tray: Tray, bar: ProgressBar, fill: Callable[[Filling], None]
) -> Outputs:
    """Make everything that is asked for of one picture, and write nothing but its rows.

    Args:
        job: of one still picture.
        model: the networks.
        order: see `Order`.
        tray: see `Tray`.
        bar: of which the picture's tiles are the next.
        fill: makes the rows.

    Raises:
        AdaDiffSRError: the picture, the settings or the disk do not allow it.
        OSError: likewise.
    """
    began, page, mask = time.monotonic(), job.pages[0], tray.mask
    bands = Bands(model, page.source_size, page.size, order.config, tray.leaves_all)
    job.check_same()
    with name_full_disk(job.targets.result):
        kept = KeptBands(job.targets.result, _fingerprint(job, bands, tray))
    if tray.is_new:
        kept.clear()

    def check() -> None:
        _check_same(job.source, job.state, kept, lambda: kept.is_of(_fingerprint(job, bands, tray)))
        if mask is not None:
            _check_same(mask.path, mask.state, kept, lambda: fingerprint_content(mask.path) == mask.content)

    def fill_rest(picture: PictureRows, spool: Spool, first: int) -> None:
        fill(Filling(bands, picture, spool, kept, first, bar, None if mask is None else mask.rows))

    try:
        check()
        with name_full_disk(job.targets.result):
            outputs = _make(job, order, bands, kept, fill_rest, check)
    except BaseException:
        kept.close()
        raise
    outputs.seconds = time.monotonic() - began
    return outputs


def _make(
    job: PhotoJob,
    order: Order,
    bands: Bands,
    kept: KeptBands,
    fill_rest: Callable[[PictureRows, Spool, int], None],
    check: Callable[[], None],
) -> Outputs:
    page = job.pages[0]
    try:
        picture = _open(job.source, page.source_size)
        photo = replace(picture.photo, notes=picture.photo.notes.strip()) if order.strip else picture.photo
        spool = Spool(kept.rows, photo, page.size, job.targets.result)
        first = _rows_done(bands, spool, kept)
        if first < len(bands.result_rows):
            fill_rest(picture, spool, first)
        report = _join(bands, kept)
        outputs = Outputs(job, order.quality, describe_settings(order.config, bands.model))
        outputs.add_bands(page, bands.work, bands.factor, report)
        if len(job.targets.pictures) > 1:
            small = spool.preview(_PREVIEW_PX)
            shrunk = (small.shape[1] / bands.work.size[0], small.shape[2] / bands.work.size[1])
            outputs.draw_bands(picture, small, (bands.factor * shrunk[0], bands.factor * shrunk[1]), report)
    except REFUSALS:
        check()  # what its decoder says of a file that is another by now helps nobody
        raise
    check()
    outputs.write_later(job.targets.result, lambda path: spool.write(path, order.quality))
    outputs.kept = kept
    return outputs


def _check_same(path: Path, before: FileState | None, kept: KeptBands, is_same: Callable[[], bool]) -> None:
    """Refuse to go on, or to write what was made, if a file that it is made of was changed meanwhile."""
    if (now := look_at(path)) == before:
        return
    if now is None:
        raise ImageError(f"{path} is gone; put it back and start again, what is done of it is kept")
    if not is_same():
        kept.clear()
        raise _changed(path)


def _fingerprint(job: PhotoJob, bands: Bands, tray: Tray) -> str:
    settings = {name: value for name, value in bands.config.to_dict().items() if name != "tile_batch"}
    facts: dict[str, Any] = {"settings": settings, "size": list(bands.size), "kind": job.targets.result.suffix}
    if bands.has_budget:
        facts["part"] = bands.part_rows
    if tray.mask is not None:
        facts["mask"] = tray.mask.content
    return fingerprint_run(facts, {"input": job.source, "weights": tray.weights})


def _changed(path: Path) -> ImageError:
    return ImageError(f"{path} was changed while it was worked on; start again")


def fill_here(filling: Filling) -> None:
    """Make the rows with this process's own networks, from top to bottom."""
    bands, bar = filling.bands, filling.bar
    filling.announce(is_timed=True)

    def begin(part: Rows) -> None:
        bar.begin((part[1] - part[0]) * bands.grid.cols)

    def end(part: Rows, report: RunReport) -> None:
        bar.end()
        filling.kept.keep(part, report)

    read, mask = filling.picture.read, filling.mask
    stream = Stream(bands, read, filling.first, mask, Watch(begin, end, bar.update))
    bar.skip(stream.first_row * bands.grid.cols)
    for rows in stream.rows():
        stop_if_asked()
        filling.spool.add(rows)


def _open(path: Path, size: Size) -> PictureRows:
    picture = open_photo(path).open_rows()
    if picture is None or (picture.height, picture.width) != size:
        raise _changed(path)
    return picture


def _rows_done(bands: Bands, spool: Spool, kept: KeptBands) -> int:
    """How many of the result's pieces are there, whole, with all reports; what is there of the next is cut off."""
    rows, told = spool.rows, set(_tiles_told(bands, kept)[0])
    pieces = len(bands.result_rows)
    done = sum(bottom <= rows for _, bottom in bands.result_rows)
    while done and not told.issuperset(range(_tiles_above(bands, done))):
        done -= 1
    if done < pieces:
        spool.cut(bands.result_rows[done][0])
    return done


def _tiles_above(bands: Bands, done: int) -> int:
    """Rows of tiles that are not sampled where so many of the result's pieces are there."""
    return bands.grid.rows if done == len(bands.result_rows) else Stream(bands, lambda: (), done).first_row


def _tiles_told(bands: Bands, kept: KeptBands) -> tuple[dict[int, tuple[TileReport, ...]], list[RunReport]]:
    """Tiles by their row, of those that two runs made the later's; and the reports that they are out of."""
    cols = bands.grid.cols
    by_row: dict[int, tuple[TileReport, ...]] = {}
    parts = kept.reports()
    for (first, last), report in parts:
        for row in range(first, last):
            begin = (row - first) * cols
            by_row[row] = report.tiles[begin : begin + cols]
    return by_row, [report for _, report in parts]


def _join(bands: Bands, kept: KeptBands) -> RunReport:
    """One report out of those of all bands."""
    by_row, parts = _tiles_told(bands, kept)
    return replace(join_reports(parts), tiles=tuple(tile for row in sorted(by_row) for tile in by_row[row]))
