"""What earlier runs of `adadiffsr upscale` finished in a folder: the same command goes on where one was stopped.

A line is added before a photograph is worked on and another when all its files are there. Files appear whole or not at
all, so that what is between the two lines is made again and what is behind the second is whole.

Source: decision D73.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import FileState, check_writable, fingerprint_content, look_at
from ..plain_json import parse_json

NAME = ".adadiffsr.jsonl"


def fingerprint_run(facts: Mapping[str, Any], files: Mapping[str, Path | None]) -> str:
    """What all results of a run depend on besides their photographs.

    Args:
        facts: settings, as plain values.
        files: weights and mask by name; None for those that are not there.
    """
    contents = {name: None if path is None else fingerprint_content(path) for name, path in files.items()}
    return _digest({"facts": facts, "files": contents})


def find_results(folder: Path) -> list[Path]:
    """Files that the journal of a folder says were made by earlier runs; none where no journal can be read."""
    try:
        return Journal(folder, "").results
    except OSError:
        return []


class Journal:
    """The journal of a folder of results.

    Args:
        folder: of the results.
        run: see `fingerprint_run`.

    Raises:
        OSError: it is no ordinary file, or cannot be read or written; found before the work rather than after it.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.path, self.run = folder / NAME, run
        self._begun: dict[str, str] = {}
        self._done: dict[str, Mapping[str, int]] = {}
        self._contents: dict[str, str] = {}  # of the photograph that a file was made of
        self._known: dict[tuple[Path, FileState | None], str] = {}
        check_writable(self.path)
        # What a disk made of a line must not hide the others.
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        for line in text.splitlines():
            self._take(line)
        # A line that was cut short must not swallow the next one.
        self._between = "\n" if text and not text.endswith("\n") else ""

    def _take(self, line: str) -> None:
        try:
            entry = parse_json(line)
            name, fingerprint, sizes = entry["result"], entry["fingerprint"], dict(entry.get("bytes") or {})
            content, files = entry.get("input", ""), [name, *entry.get("files", []), *sizes]
        except (ConfigError, ValueError, KeyError, TypeError, AttributeError):
            return  # the last line of a run that was killed while it wrote it
        is_text = all(isinstance(text, str) for text in (fingerprint, content, *files))
        if not is_text or not all(isinstance(size, int) for size in sizes.values()):
            return
        self._contents.update(dict.fromkeys(files, content))
        self._begun[name] = fingerprint
        self._done.pop(name, None)
        if sizes:
            self._done[name] = sizes

    @property
    def results(self) -> list[Path]:
        """Absolute paths of all files that earlier runs made or began to make, whatever has become of them since."""
        return [self._path(name) for name in self._contents]

    def made_of(self, sources: Iterable[Path]) -> list[list[Path]]:
        """For each photograph, the files that earlier runs made of its bytes, by whatever settings."""
        made: dict[str, list[Path]] = defaultdict(list)
        for name, content in self._contents.items():
            if content:
                made[content].append(self._path(name))

        def find(source: Path) -> list[Path]:
            try:
                return made.get(self.content(source), [])
            except OSError:  # it is refused when its results are looked at
                return []

        return [find(source) if made else [] for source in sources]

    def content(self, source: Path) -> str:
        """A hash of a photograph's bytes; read once as long as its file stays the same.

        Raises:
            OSError: it cannot be read.
        """
        key = source, look_at(source)
        if key not in self._known:
            self._known[key] = fingerprint_content(source)
        return self._known[key]

    def fingerprint(self, source: Path, targets: Sequence[Path]) -> str:
        """Of one photograph's results: the file's bytes, the run, and which files are asked for.

        Raises:
            OSError: the photograph cannot be read.
        """
        return _digest({"run": self.run, "input": self.content(source), "files": self._names(targets)})

    def is_done(self, targets: Sequence[Path], fingerprint: str) -> bool:
        """Whether all files are there as they were left, made from the same by the same settings."""
        name, sizes = self._names(targets)[0], {}
        if self._begun.get(name) == fingerprint:
            sizes = dict(self._done.get(name, {}))
        return bool(sizes) and all(
            path.is_file() and path.stat().st_size == sizes.get(written)
            for path, written in zip(targets, self._names(targets), strict=True)
        )

    def owns(self, targets: Sequence[Path], fingerprint: str) -> bool:
        """Whether what is there may be replaced: a run that was stopped left it, made from the same."""
        return self._begun.get(self._names(targets)[0]) == fingerprint

    def find_changed(self, targets: Sequence[Path]) -> list[Path]:
        """Files that are there, and not as they were left when all were."""
        names = self._names(targets)
        sizes = self._done.get(names[0], {})
        there = [(path, sizes[name]) for path, name in zip(targets, names, strict=True) if name in sizes]
        return [path for path, size in there if path.is_file() and path.stat().st_size != size]

    def begin(self, record: "Record") -> None:
        """Say that a photograph is worked on; the first of its files is the result."""
        self._write(self._describe(record))

    def end(self, record: "Record") -> None:
        """Say that all its files are there."""
        sizes = [path.stat().st_size for path in record.targets]
        self._write(self._describe(record) | {"bytes": dict(zip(self._names(record.targets), sizes, strict=True))})

    def _describe(self, record: "Record") -> dict[str, Any]:
        names = self._names(record.targets)
        return {"result": names[0], "fingerprint": record.fingerprint, "input": record.content, "files": names}

    def _names(self, targets: Sequence[Path]) -> list[str]:
        """As they are found from the journal's folder, so that it may be moved with the results."""
        return [Path(os.path.relpath(path, self.path.parent)).as_posix() for path in targets]

    def _path(self, name: str) -> Path:
        # Like `_names` without following links, which would change what ".." is.
        return Path(os.path.abspath(self.path.parent / name))  # noqa: PTH100

    def _write(self, entry: Mapping[str, Any]) -> None:
        text = json.dumps(entry)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{self._between}{text}\n")
            file.flush()
            os.fsync(file.fileno())
        self._between = ""
        self._take(text)


@dataclass(frozen=True)
class Record:
    """One photograph's results, for the journal; without one nothing is told.

    Attributes:
        targets: the files, the result first.
        journal: of their folder, or None.
        fingerprint: see `Journal.fingerprint`.
        content: see `Journal.content`.
    """

    targets: Sequence[Path] = ()
    journal: Journal | None = None
    fingerprint: str = ""
    content: str = ""

    def is_of(self, photograph: Path | bytes) -> bool:
        """Whether a file, or its bytes, is what the results are to be written down by; False if nobody is told.

        Raises:
            OSError: it cannot be read.
        """
        return self.journal is not None and fingerprint_content(photograph) == self.content

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell the journal that files are written, and that they are there."""
        if self.journal is None:
            yield
            return
        self.journal.begin(self)
        yield
        self.journal.end(self)


@dataclass(frozen=True)
class History:
    """What is to be done about results that are there already.

    Attributes:
        journal: of earlier runs, or None.
        keeps_others: whether files of others are refused, rather than replaced.
        makes_again: whether what is finished is made again.
        is_whole: whether a file is, so that somebody changed it; one that was cut, by a copy or a disk, is made again.
    """

    journal: Journal | None = None
    keeps_others: bool = False
    makes_again: bool = False
    is_whole: Callable[[Path], bool] = lambda path: True

    def look(self, source: Path, targets: Sequence[Path]) -> Record | None:
        """What a photograph's results are written down by; None where it needs no work.

        Raises:
            ConfigError: one of its files is there already, and not from a run like this, or was changed since.
        """
        journal = self.journal
        fingerprint = "" if journal is None else journal.fingerprint(source, targets)
        if journal is not None and not self.makes_again and journal.is_done(targets, fingerprint):
            return None
        if self.keeps_others and not (journal is not None and journal.owns(targets, fingerprint)):
            for path in targets:
                if path.exists():
                    raise ConfigError(
                        f"{path} is there already, and not from this photograph by these settings; name another "
                        "folder, or give --overwrite"
                    )
        if self.keeps_others and journal is not None:
            for path in journal.find_changed(targets):
                if self.is_whole(path):
                    raise ConfigError(
                        f"{path} was changed since it was made; move it elsewhere to have it made again, or give "
                        "--overwrite"
                    )
        return Record(targets, journal, fingerprint, "" if journal is None else journal.content(source))


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()
