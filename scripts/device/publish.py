"""Results in the folder that is fetched: at every moment a whole set, never more files than may come back."""

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .parts import Limits, split_files

FOLDER = "results"
_REPORT_BYTES = 12 * 2**20


class Publisher:
    """Replaces `out/results` by a new set of parts, each time as a whole.

    The set is written beside `out` and moved in, since what is half written may be fetched too: the machine can be
    stopped at any moment.

    Args:
        out: the folder that is fetched.
        limits: of what may come back.
    """

    def __init__(self, out: Path, limits: Limits | None = None) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.limits = out, limits
        self.staging = _staging_beside(out)

    def publish(self, files: Mapping[str, Path], notes: Mapping[str, Any]) -> list[str]:
        """Split `files` anew and put them in the place of the set before.

        Returns:
            Names of files that the limits did not let through.
        """
        new, old = self.staging / "new", self.staging / "old"
        for folder in (new, old):
            shutil.rmtree(folder, ignore_errors=True)
        left_out = split_files(files, new, notes, self.limits)
        results = self.out / FOLDER
        # Two moves, a few microseconds apart: the other order would for a moment show twice the files.
        if results.exists():
            results.rename(old)
        new.rename(results)
        shutil.rmtree(old, ignore_errors=True)
        return left_out

    def close(self) -> None:
        """Leave nothing but the results."""
        shutil.rmtree(self.staging, ignore_errors=True)


def _staging_beside(out: Path) -> Path:
    """A folder from which a folder can be moved into `out`: beside it, or inside where that is another disk."""
    for parent in (out.absolute().parent, out):
        try:
            staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=parent))
        except OSError:
            continue
        probe = staging / "probe"
        probe.mkdir()
        try:
            probe.rename(out / ".probe")
        except OSError:  # a mount that only looks like the same disk
            shutil.rmtree(staging)
            continue
        (out / ".probe").rmdir()
        return staging
    raise OSError(os.strerror(13), str(out))


def zip_reports(path: Path, files: Iterable[tuple[str, Path]]) -> None:
    """Put logs and pictures into one file, the first ones first, as far as they fit into one part."""
    used = 0
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in files:
            if not file.is_file() or used + file.stat().st_size > _REPORT_BYTES:
                continue
            used += file.stat().st_size
            archive.write(file, name)
    partial.replace(path)
