"""What is told of a picture's file that could be read, but not quite as it was meant."""

import sys
from pathlib import Path

from .terminal import say


def tell_left_out(path: Path, count: int) -> None:
    """Say that so many channels are no part of the picture, if any."""
    if count:
        what = "channels that are neither colours nor transparency, such as saved selections"
        say(f"note: {path} has {what}; they are left out", sys.stderr)


def tell_damage(path: Path, has_damage: bool) -> None:
    """Say that a decoder met damage, filled it with what it could, and went on, if it did."""
    if has_damage:
        say(f"note: {path} is damaged in places, which its decoder filled; look at it", sys.stderr)
