"""Files opened with Pillow: only as the kinds that are asked for, and in silence.

Left to itself Pillow tries all of its readers, whatever the name says, and one of them has PostScript run by
Ghostscript, which need never end.
"""

import threading
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from PIL import Image
from typing_extensions import Self


class _Quiet:
    """Warnings held back while at least one thread is inside: Python's own way of it is not made for several."""

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> Self:
        with self._lock:
            if not self._inside:
                self._outside = warnings.catch_warnings()
                self._outside.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._outside.__exit__(kind, error, trace)


quiet_pillow = _Quiet()
_STARTED = threading.Lock()


def open_picture(file: IO[bytes], formats: Sequence[str]) -> Image.Image:
    """The picture in an open file, of which nothing but the header was read.

    Args:
        file: to read from for as long as the picture is used.
        formats: Pillow's names of the kinds that it may be.

    Raises:
        Exception: whatever Pillow raises at a file that is damaged or of another kind; that is almost anything.
    """
    with _STARTED:
        Image.init()  # no affair of several threads at once
    with quiet_pillow:  # the limits on size are ours
        return Image.open(file, formats=list(formats))
