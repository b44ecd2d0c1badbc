"""What a training command says, as few lines that a person can follow: bars thinned out, minutes left added."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

# tqdm's, with an end by steps: "ldm:  12%|# | 900/7500 [00:36<04:24, 25.0it/s, unet.total=0.0312]";
# by time: "ldm: 900it [00:36, 25.0it/s, unet.total=0.0312]"
_BAR = re.compile(
    r"(?P<step>\d+)(?:/(?P<steps>\d+)|/\?|it) \[[^\],]*, +(?P<rate>[\d.]+|\?)(?P<unit>it/s|s/it)"
    r"(?:, (?P<figures>.*))?\]"
)
_LONGEST = 240


class Progress:
    """Takes the raw output of a command and prints lines.

    Args:
        stream: where to.
        log: file that gets everything, bars thinned out too.
        minutes_left: of the whole command.
        every: seconds between two lines that a bar makes.
        clock: in seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        log: Path,
        minutes_left: Callable[[], float],
        every: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream, self.minutes_left, self.every, self.clock = stream, minutes_left, every, clock
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log.open("a", encoding="utf-8")
        self.batch: Callable[[], int] = lambda: 0
        self._rest, self._shown = "", float("-inf")

    def say(self, text: str) -> None:
        """One line, with the minutes that are left."""
        line = f"[{self.minutes_left():4.1f} min left] {' '.join(text.split())[:_LONGEST]}\n"
        for stream in (self.stream, self.log):
            stream.write(line)
            stream.flush()

    def feed(self, text: str) -> None:
        """Some more of what the command wrote; lines end in newlines, states of a bar in carriage returns."""
        *whole, self._rest = re.split(r"([\r\n])", self._rest + text)
        for words, end in zip(whole[::2], whole[1::2], strict=True):
            bar = _BAR.search(words)
            if bar is not None and (end == "\r" or self._is_soon()):
                self._show_bar(words, bar)
            elif words.strip():
                self.say(words)

    def flush(self) -> None:
        """The command has ended; what it wrote last may lack an end."""
        if self._rest.strip():
            self.say(self._rest)
        self._rest, self._shown = "", float("-inf")

    def close(self) -> None:
        """No more is to come."""
        self.log.close()

    def _is_soon(self) -> bool:
        return self.clock() - self._shown < self.every

    def _show_bar(self, words: str, bar: re.Match[str]) -> None:
        if self._is_soon():
            return
        self._shown = self.clock()
        name = words.partition(":")[0].strip() or "training"
        end = f" of {bar['steps']}" if bar["steps"] else ""
        self.say(f"{name} step {bar['step']}{end}{self._rate(bar)}, {bar['figures'] or 'no figures yet'}")

    def _rate(self, bar: re.Match[str]) -> str:
        if bar["rate"] == "?" or float(bar["rate"]) == 0:
            return ""
        rate = float(bar["rate"])
        steps = rate if bar["unit"] == "it/s" else 1 / rate
        batch = self.batch()
        return f", {steps:.2f} steps/s" + (f", {steps * batch:.0f} samples/s" if batch else "")
