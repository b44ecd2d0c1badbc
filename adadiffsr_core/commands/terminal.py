"""What the command line says: results on stdout, progress and refusals on stderr."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

import torch
from tqdm import tqdm

from ..errors import AdaDiffSRError, ConfigError
from ..memory import is_out_of_memory
from ..sampling.turn import Progress
from ..text import sentence, shown
from .interrupts import stop_if_asked

_NEGATIVE = re.compile(r"-(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|inf|infinity|nan)\Z", re.IGNORECASE)
REFUSALS: tuple[type[Exception], ...] = (AdaDiffSRError, OSError, MemoryError, torch.OutOfMemoryError)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one sentence instead of a page of usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = _NEGATIVE  # argparse's own takes -inf and -1e5 for options

    def error(self, message: str) -> NoReturn:
        """Turn argparse's complaint into ours.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{message}; see {self.prog} --help")


def say(text: str, stream: TextIO | None = None) -> None:
    """Write one line, in which endless names are cut, above a progress bar if there is one; None is stdout."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "utf-8"  # file names may hold what a terminal cannot show
    tqdm.write(sentence(" ".join(text.split())).encode(encoding, "replace").decode(encoding), file=stream)


def complain(error: BaseException, about: str = "") -> None:
    """Say on stderr, in one line, what was refused.

    Args:
        error: one of `REFUSALS`.
        about: the file it concerns, unless the message names it.
    """
    text = describe(error)
    say(f"adadiffsr: {text if about in text else f'{about}: {text}'}", sys.stderr)


def describe(error: BaseException) -> str:
    """What one of `REFUSALS` is about, without our name before it."""
    if is_out_of_memory(error):
        is_device = isinstance(error, torch.OutOfMemoryError)
        more = ", or try --device cpu" if is_device else ""
        return f"there is not enough memory; ask for a smaller --scale or --tile-batch{more}"
    if isinstance(error, OSError) and error.strerror:
        return f"{shown(str(error.filename))}: {error.strerror}" if error.filename else error.strerror
    return str(error)


class ProgressBar:
    """One bar over every tile of every photograph.

    Its total is what the run will have evaluated, as it looks now: tiles that stop early or take long steps bring it
    down, and tiles of photographs that wait are expected to cost what the others did.

    Args:
        tiles: of each photograph that is to come.
        each: evaluations that a tile is expected to cost as long as none is known.
    """

    def __init__(self, tiles: Sequence[int], each: int) -> None:
        self.waiting = sum(tiles)
        self.done_tiles = self.done_nfe = self.tiles = self.nfe = self.turned_nfe = 0
        self.bar = tqdm(total=self.waiting * each, desc="upscale", unit="tile step", mininterval=0.5)

    def begin(self, tiles: int) -> None:
        """A photograph of so many tiles is next."""
        self.waiting -= tiles
        self.tiles = tiles

    def skip(self, tiles: int) -> None:
        """So many of the tiles that wait were done before."""
        self.waiting -= tiles

    def update(self, progress: Progress) -> None:
        """The sampler's `on_step`, and the place where a Ctrl-C that was lost is found again.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        stop_if_asked()
        self.nfe = self.turned_nfe + progress.nfe
        self._expect(self.turned_nfe + progress.expected_nfe)
        self.bar.update(self.done_nfe + self.nfe - self.bar.n)

    def take(self, tiles: int, nfe: int) -> None:
        """A photograph of so many tiles was made elsewhere, by so many evaluations; or given up, by none.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        self.begin(tiles)
        self.update(Progress(nfe=nfe, expected_nfe=nfe))
        self.end()

    def turn_page(self) -> None:
        """The sampler begins again with the next frame or page of the photograph."""
        self.turned_nfe = self.nfe

    def end(self) -> None:
        """The photograph is finished, or was given up."""
        self._expect(self.nfe)
        self.done_tiles += self.tiles
        self.done_nfe += self.nfe
        self.tiles = self.nfe = self.turned_nfe = 0

    def _expect(self, nfe: int) -> None:
        """The present photograph will have cost `nfe`, and those that wait as much per tile as all so far."""
        each = (self.done_nfe + nfe) / max(1, self.done_tiles + self.tiles)
        self.bar.total = self.done_nfe + nfe + round(each * self.waiting)

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.close()
