"""What `adadiffsr upscale` is going to do: which photographs, to which files, at which sizes.

Everything that can be refused is refused here, before the first evaluation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..drawing.pictures import comparison_zooms, map_zoom
from ..errors import ConfigError, ImageError
from ..files import FileState, check_folder, check_writable, follow_links, look_at
from ..photo.admission import read_file
from ..photo.containers import Motion
from ..photo.limits import MAX_PIXELS
from ..photo.spool import check_streamed
from ..photo.writing import WRITABLE, check_output_fits, check_output_path, holds_all
from .drafts import Draft, Page
from .journal import Journal, Record
from .kept import count_kept
from .naming import common_folder, grant_wishes, make_wish
from .resources import DiskBudget, check_memory


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The files that one photograph becomes; None for those that are not asked for."""

    result: Path
    map: Path | None = None
    compare: Path | None = None
    report: Path | None = None

    @property
    def pictures(self) -> list[Path]:
        """The result and what is drawn of it."""
        return [path for path in (self.result, self.map, self.compare) if path is not None]

    @property
    def paths(self) -> list[Path]:
        """All that will be written."""
        return [*self.pictures, *([] if self.report is None else [self.report])]


@dataclass(frozen=True, kw_only=True)
class PhotoJob:
    """One photograph to upscale: its file, the frames or pages that are made, and the files it becomes.

    Attributes:
        state, in_bands: see `Draft`.
        record: is told when they are written.
    """

    source: Path
    pages: tuple[Page, ...]
    motion: Motion | None
    targets: Targets
    state: FileState | None
    in_bands: bool = False
    record: Record = field(default_factory=Record)

    def check_same(self) -> None:
        """Refuse a file that is another than the one that was planned with, by whose size and name it would be made.

        One that was only touched is the same, where the journal can tell.

        Raises:
            ImageError: it was changed, replaced or taken away meanwhile.
        """
        now = look_at(self.source)
        if now != self.state and (now is None or not self.record.is_of(self.source)):
            raise ImageError(f"{self.source} was changed while it was worked on; start again")

    def read(self) -> bytes:
        """The file's bytes, which are those that it was planned by.

        Raises:
            ImageError: they cannot be read, or are others by now.
        """
        encoded = read_file(self.source)
        self.check_same()
        return encoded

    @property
    def most_pixels(self) -> int | None:
        """What fits where it is worked at; None in bands."""
        return None if self.in_bands else MAX_PIXELS


_OF_FILES = {*WRITABLE, ".json"}  # endings that nobody gives a folder by intent


@dataclass
class Planner:
    """Names the files that photographs become, and sees to it that they can be written and none over another.

    Attributes:
        out, map, compare, report: as the user gave them; files for one photograph, folders for many.
        is_many: whether they are folders.
        inputs: files that must not be written over.
        device: of the networks; None where they are on other machines.
        tell: is told in a sentence what a file cannot hold.
        ending: of results in a folder; None is each photograph's own.
    """

    out: str
    map: str | None
    compare: str | None
    report: str | None
    is_many: bool
    inputs: dict[Path, Path]
    device: torch.device | None
    tell: Callable[[str], None]
    ending: str | None = None
    _claimed: dict[Path, Path] = field(default_factory=dict)
    _disk: DiskBudget = field(default_factory=DiskBudget)

    def name(self, drafts: Sequence[Draft], journal: Journal | None = None) -> list[Targets]:
        """Where the results of each go; those in folders get names that are all different.

        Args:
            drafts: all photographs of the run.
            journal: knows how they were named before; None if nobody does.

        Raises:
            ConfigError: a file is named where a folder is needed.
            OSError: a folder cannot be created, or not be written to.
        """
        common = common_folder([draft.source for draft in drafts])
        given = {"result": self.out, "map": self.map, "compare": self.compare, "report": self.report}
        asked = {kind: (text, self._folder(text)) for kind, text in given.items() if text is not None}
        places = [(kind, number) for number in range(len(drafts)) for kind in asked]
        wishes = {
            (kind, number): make_wish(drafts[number].source, self._ending(kind, drafts[number]), folder, common)
            for kind, number in places
            if (folder := asked[kind][1]) is not None
        }
        made = [] if journal is None else journal.made_of(draft.source.path for draft in drafts)
        named = grant_wishes(list(wishes.values()), [made[number] for _, number in wishes] if made else [])
        granted = dict(zip(wishes, named, strict=True))
        paths = {place: granted.get(place) or Path(asked[place[0]][0]) for place in places}
        return [Targets(**{kind: paths[kind, number] for kind in asked}) for number in range(len(drafts))]

    def spare_inputs(self, targets: Targets) -> None:
        """Refuse files that are there as inputs, which no option allows to be written over.

        Raises:
            ConfigError: one of them is.
        """
        for path in targets.paths:
            if (key := follow_links(path)) in self.inputs:
                raise ConfigError(f"{path} would be written over {self.inputs[key]}; choose another output")

    def plan(self, draft: Draft, targets: Targets) -> PhotoJob:
        """Decide what is made of a photograph.

        Raises:
            AdaDiffSRError: a file of it cannot be written, or must not be, or there is no room for it.
            OSError: a folder cannot be created.
        """
        for path in targets.paths if self.is_many else ():
            path.parent.mkdir(parents=True, exist_ok=True)  # sub-folders of folders that can be written to
        for path in targets.pictures:
            check_output_path(path)
        if targets.report is not None:
            check_writable(targets.report)
        pages = draft.pages if holds_all(targets.result, len(draft.pages), draft.motion) else draft.pages[:1]
        for page in pages:
            check_output_fits(targets.result, *page.size, is_opaque=page.is_opaque)
            if not draft.in_bands and self.device is not None:
                check_memory(page.source_size, page.size, self.device)
        if draft.in_bands:
            check_streamed(targets.result)
            page = pages[0]
            there = count_kept(targets.result)
            self._disk.plan_rows(targets.result, page.size, there, channels=page.channels, bit_depth=page.bit_depth)
        self._claim(targets, draft.source.path)
        self._reserve(targets, pages)
        self._tell_what_is_left_out(draft, targets)
        return PhotoJob(
            source=draft.source.path,
            pages=pages,
            motion=draft.motion,
            targets=targets,
            state=draft.state,
            in_bands=draft.in_bands,
        )

    @property
    def folder(self) -> Path | None:
        """Where results get names of their own; None if the user named the file."""
        return self._folder(self.out)

    def _ending(self, kind: str, draft: Draft) -> str:
        if kind == "result" and self.ending is not None:
            return self.ending
        return _ending(kind, draft)

    def _folder(self, given: str) -> Path | None:
        """The folder that files are named in, made if need be; None if the user named the file."""
        path = Path(given)
        if not self.is_many and not path.is_dir() and not given.endswith("/"):
            return None
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{given} is a file; name a folder for what several photographs become")
        if not path.exists() and not given.endswith("/") and path.suffix.lower() in _OF_FILES:
            raise ConfigError(
                f"{given} is the name of a file, and several photographs become several; name a folder for them, and "
                "end it in / if it is to be called so"
            )
        path.mkdir(parents=True, exist_ok=True)
        check_folder(path)
        return path

    def _reserve(self, targets: Targets, pages: Sequence[Page]) -> None:
        for page in pages:
            self._disk.plan(targets.result, page.size, channels=page.channels, bit_depth=page.bit_depth)
            if targets.map is not None:
                self._disk.plan_drawing(targets.map, page.size, map_zoom(*page.size))
            if targets.compare is not None:
                zoom, _ = comparison_zooms([page.size] * 2)
                self._disk.plan_drawing(targets.compare, page.size, zoom, columns=2)
            if targets.report is not None:
                self._disk.plan_report(targets.report)

    def _tell_what_is_left_out(self, draft: Draft, targets: Targets) -> None:
        count = len(draft.pages)
        short = [path.name for path in targets.pictures if not holds_all(path, count, draft.motion)]
        if short:
            better = ".tif" if draft.motion is None else ".png, .webp or .tif"
            self.tell(
                f"{draft.source.path} has {draft.parts}; {' and '.join(short)} can hold one, so only the first is in "
                f"there; end the name in {better} for all"
            )

    def _claim(self, targets: Targets, source: Path) -> None:
        self.spare_inputs(targets)
        claimed = dict(self._claimed)
        for path in targets.paths:
            if (key := follow_links(path)) in claimed:
                raise ConfigError(f"{path} would be written for {claimed[key]} and again for {source}; keep them apart")
            claimed[key] = source
        self._claimed = claimed


def _ending(kind: str, draft: Draft) -> str:
    """What follows a photograph's name in that of a file of this kind."""
    suffix = draft.source.path.suffix
    if kind == "result":
        return suffix if suffix.lower() in WRITABLE else ".png"
    if kind == "report":
        return ".json"
    # Pages would not fit into a PNG, and what a result holds its map should.
    has_pages = len(draft.pages) > 1 and draft.motion is None and WRITABLE.get(suffix.lower()) == "tiff"
    return f"-{kind}.tif" if has_pages else f"-{kind}.png"
