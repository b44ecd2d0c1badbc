"""What is done of a picture that is made in bands, in a hidden folder beside its result, until the result is written.

Source: decision D74.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..disk import allocated_bytes
from ..errors import ConfigError
from ..files import Lock, fit_name, follow_links
from ..sampling.report import RunReport, StepRecord, TileReport
from ..sampling.rule import TileClass
from ..streaming.layout import Rows

_ROWS, _LOG, _LOCK = "rows", "reports.jsonl", "lock"
_LONGEST = 200  # bytes of a result's name that its folder's repeats


class KeptBands:
    """The folder of one picture, which one run at a time has.

    Whoever is done with it lets go: `close` keeps what is there, `remove` does not.

    Args:
        target: the result.
        fingerprint: of what its pixels depend on.

    Raises:
        ConfigError: another run is making the same.
        OSError: the folder cannot be made.
    """

    def __init__(self, target: Path, fingerprint: str) -> None:
        self.target, self.fingerprint = target, fingerprint
        # Beside the file that a link leads to: there is the room that was counted on.
        self.folder = _home(target).parent / f"{_beginning(target)}{fingerprint[:8]}.bands"
        self._lock = Lock(self.folder / _LOCK)
        if not self._lock.is_held:
            raise ConfigError(f"{target} is being made by another run; wait for it, or name another output")
        self._log = self.folder / _LOG
        for path in self.folder.iterdir():
            if path.name not in (_ROWS, _LOG, _LOCK):  # half a result, of a run that was killed
                path.unlink()

    def is_of(self, fingerprint: str) -> bool:
        """Whether the folder is that of this fingerprint."""
        return self.fingerprint == fingerprint

    @property
    def rows(self) -> Path:
        """The file of the result's rows (see `Spool`)."""
        return self.folder / _ROWS

    def clear(self) -> None:
        """Begin anew."""
        self.rows.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)

    def keep(self, part: Rows, report: RunReport) -> None:
        """Write down where the evaluations of a band went."""
        line = json.dumps({"first": part[0], "last": part[1], "report": asdict(report)})
        with self._log.open("ab") as file:
            # On a line of its own, whatever a run that was killed left of its last one.
            file.write(f"\n{line}\n".encode())

    def reports(self) -> list[tuple[Rows, RunReport]]:
        """Rows of tiles and their reports, as they were made; none whose rows a later one has all again."""
        found: list[tuple[Rows, RunReport]] = []
        for line in self._lines():
            # The last line of a run that was killed while it wrote it.
            with suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                made, report = (int(entry["first"]), int(entry["last"])), _to_report(entry["report"])
                found = [kept for kept in found if not made[0] <= kept[0][0] < kept[0][1] <= made[1]]
                found.append((made, report))
        return found

    def _lines(self) -> Iterator[str]:
        if self._log.is_file():
            yield from self._log.read_text(encoding="utf-8", errors="replace").splitlines()

    def close(self) -> None:
        """Leave what is there for the next run; nothing stays of a folder without rows."""
        if self.rows.is_file() and self.rows.stat().st_size:
            self._lock.release()
        else:
            self.remove()

    def remove(self) -> None:
        """Nothing of it is needed any more."""
        _remove(self.folder, self._lock)


def remove_others(target: Path, kept: KeptBands | None = None) -> None:
    """Remove what runs of other settings left of a picture that is finished.

    Args:
        target: the result.
        kept: that it was made of.
    """
    for folder in _folders(target):
        if kept is None or folder != kept.folder:
            lock = Lock(folder / _LOCK)
            if lock.is_held:
                _remove(folder, lock)


def count_kept(target: Path) -> int:
    """Bytes that rows of a result take on its disk already; of several settings the most."""
    return max((allocated_bytes(folder / _ROWS) for folder in _folders(target)), default=0)


def _home(target: Path) -> Path:
    return follow_links(target)


def _beginning(target: Path) -> str:
    """Of the folder's name; two results never have the same."""
    return f".{fit_name(_home(target).name, most=_LONGEST)}."


def _folders(target: Path) -> list[Path]:
    beginning, parent = _beginning(target), _home(target).parent
    if not parent.is_dir():
        return []
    length = len(beginning) + len("01234567.bands")
    return [
        path
        for path in parent.iterdir()  # no pattern: names may hold brackets
        if path.name.startswith(beginning) and path.name.endswith(".bands") and len(path.name) == length
    ]


def _remove(folder: Path, lock: Lock) -> None:
    """The lock last, so that nobody begins in a folder that is on its way."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name != _LOCK:
                path.unlink()
    lock.release(remove=True)
    with suppress(OSError):
        folder.rmdir()


def _to_report(plain: Mapping[str, Any]) -> RunReport:
    def to_step(step: Mapping[str, Any]) -> StepRecord:
        return StepRecord(**{**step, "tile_class": TileClass(step["tile_class"])})

    tiles = tuple(TileReport(**{**tile, "steps": tuple(map(to_step, tile["steps"]))}) for tile in plain["tiles"])
    return RunReport(**{**plain, "tiles": tiles, "calls": tuple(plain["calls"])})
