"""What the command line cannot say stops nothing: stdout and stderr that may be closed, full or a broken pipe.

Imports next to nothing, as it is looked after first.
"""

import contextlib
import os
import sys

TYPE_CHECKING = False  # typing itself takes longer than all of this
if TYPE_CHECKING:
    from typing import Any

# ValueError: the stream was closed; AttributeError: there is none.
_UNSAID = (OSError, ValueError, AttributeError)


class Streams:
    """Within the block nothing that is written to stdout or stderr fails, whoever writes: tqdm, logging, argparse.

    Args:
        is_process: nothing comes after the block but the end of the process, so that its descriptors are ours;
            otherwise the caller's streams come back.
    """

    def __init__(self, *, is_process: bool) -> None:
        self.is_process = is_process

    def __enter__(self) -> None:
        if self.is_process:
            _open_descriptors()
        self.before: tuple[Any, Any] = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Forgiving(stream) for stream in self.before)

    def __exit__(self, *error: object) -> None:
        if not self.is_process:
            sys.stdout, sys.stderr = self.before
            return
        for stream, descriptor in zip(self.before, (1, 2), strict=True):
            _let_go(stream, descriptor)


class _Forgiving:
    """A stream, or None where there is none, that takes whatever is written and passes on what it can."""

    def __init__(self, stream: "Any") -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        with contextlib.suppress(*_UNSAID):
            return bool(self._stream.isatty())
        return False

    def write(self, text: str) -> int:
        with contextlib.suppress(*_UNSAID):
            try:
                self._stream.write(text)
            except UnicodeEncodeError:  # better a mark for each letter that it lacks than nothing
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
            self._stream.flush()  # at once: what is said late may be said never
        return len(text)

    def writelines(self, lines: "Any") -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with contextlib.suppress(*_UNSAID):
            self._stream.flush()

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._stream, name)


def _open_descriptors() -> None:
    """Take the places of closed ones, or the next file that is opened would, and be written to by libraries in C."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free


def _let_go(stream: "Any", descriptor: int) -> None:
    """What is still held must find a way out, since Python's exit code would speak of it rather than of the work."""
    try:
        if stream is not None:
            stream.flush()
    except _UNSAID:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
