"""What `adadiffsr upscale` is going to do: which photographs, to which files, at which sizes.

Everything that can be refused is refused here, before the first evaluation.
"""

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError, ImageError
from ..images import MAX_PIXELS, READABLE, WRITABLE, check_output_fits, check_output_path
from ..photo import Photo

Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The files that one photograph becomes; None for those that are not asked for."""

    result: Path
    map: Path | None = None
    compare: Path | None = None
    report: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All that will be written."""
        return [path for path in (self.result, self.map, self.compare, self.report) if path is not None]


@dataclass(frozen=True)
class PhotoJob:
    """One photograph to upscale: its file, its size and the result's (height, width), and the files it becomes."""

    source: Path
    source_size: Size
    size: Size
    targets: Targets


def find_photos(names: Iterable[str], on_error: Callable[[BaseException, object], None]) -> list[Path]:
    """Files that the user named, by themselves, by their folder or by a pattern; each once, in order.

    Of a folder, its pictures without those in sub-folders. What cannot be found is told to `on_error`.
    """
    found: dict[Path, Path] = {}
    for name in names:
        try:
            for path in _expand(name):
                found.setdefault(path.resolve(), path)
        except ImageError as error:
            on_error(error, name)
    return list(found.values())


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        pictures = [file for file in sorted(path.iterdir()) if file.suffix.lower() in READABLE and file.is_file()]
        pictures = [file for file in pictures if not file.name.startswith(".")]
        if not pictures:
            raise ImageError(f"{name} holds no picture ({', '.join(READABLE)})")
        return pictures
    if glob.has_magic(name) and not path.exists():
        matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207 (takes any root)
        if not (files := [match for match in matches if match.is_file()]):
            raise ImageError(f"no file matches {name}")
        return files
    return [path]


def target_size(source: Size, scale: float, size: Size | int | None) -> Size:
    """(height, width) of the result, px.

    Args:
        source: (height, width) of the photograph.
        scale: used if `size` is None.
        size: (height, width), or the long side alone, which keeps the shape.

    Raises:
        ConfigError: the result would have no pixels, or more than `MAX_PIXELS`.
    """
    if isinstance(size, int):
        scale = size / max(source)
    height, width = size if isinstance(size, tuple) else (round(side * scale) for side in source)
    if min(height, width) < 1:
        raise ConfigError(f"the result would be {width} x {height} px; ask for at least 1 px on each side")
    if height * width > MAX_PIXELS:
        raise ConfigError(f"the result would be {width} x {height} px; at most {MAX_PIXELS // 10**6} megapixels fit")
    return height, width


@dataclass
class Planner:
    """Names the files that photographs become, and sees to it that none is written over another.

    Attributes:
        out, map, compare, report: as the user gave them; files for one photograph, folders for many.
        is_many: whether they are folders.
        inputs: files that must not be written over.
    """

    out: str
    map: str | None
    compare: str | None
    report: str | None
    is_many: bool
    inputs: dict[Path, Path]
    _claimed: dict[Path, Path] = field(default_factory=dict)

    def plan(self, source: Path, photo: Photo, size: Size) -> PhotoJob:
        """Decide where the result of `source` goes.

        Raises:
            AdaDiffSRError: a file of it cannot be written, or must not be.
            OSError: a folder cannot be created.
        """
        targets = Targets(
            result=self._place(self.out, source.stem, source.suffix if source.suffix.lower() in WRITABLE else ".png"),
            map=None if self.map is None else self._place(self.map, f"{source.stem}-map", ".png"),
            compare=None if self.compare is None else self._place(self.compare, f"{source.stem}-compare", ".png"),
            report=None if self.report is None else self._place(self.report, source.stem, ".json"),
        )
        self._check(targets, photo, size)
        self._claim(targets, source)
        return PhotoJob(source, (photo.pixels.shape[1], photo.pixels.shape[2]), size, targets)

    def _place(self, given: str, stem: str, suffix: str) -> Path:
        path = Path(given)
        if not self.is_many and not path.is_dir() and not given.endswith("/"):
            return path
        if path.is_file():
            raise ConfigError(f"{given} is a file; name a folder for what several photographs become")
        path.mkdir(parents=True, exist_ok=True)
        return path / f"{stem}{suffix}"

    def _check(self, targets: Targets, photo: Photo, size: Size) -> None:
        for path in (targets.result, targets.map, targets.compare):
            if path is not None:
                check_output_path(path)
        check_output_fits(targets.result, *size, is_opaque=photo.is_opaque)
        if targets.report is not None and (targets.report.is_dir() or not targets.report.parent.is_dir()):
            raise ConfigError(f"the report {targets.report} cannot be written; name a file in a folder that exists")

    def _claim(self, targets: Targets, source: Path) -> None:
        claimed = dict(self._claimed)
        for path in targets.paths:
            key = path.resolve()
            if key in self.inputs:
                raise ConfigError(f"{path} would be written over {self.inputs[key]}; choose another output")
            if key in claimed:
                raise ConfigError(f"{path} would be written for {claimed[key]} and again for {source}; keep them apart")
            claimed[key] = source
        self._claimed = claimed
