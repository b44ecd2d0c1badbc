"""Pictures, masks and words for `adadiffsr upscale --bands`, and something that happens on the way."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from adadiffsr_core.photo.spool import Spool

EXTRA = ("--map", "{0}-map.png", "--compare", "{0}-compare.png", "--report", "{0}.json")
WORDS = ("in.png", "-o", "out.png", "--bands", "always", "--report", "out.json")


def words(name, *more):
    return ["in.png", "-o", f"{name}.png", *(word.format(name) for word in EXTRA), *more]


def read_report(name):
    report = json.loads(Path(f"{name}.json").read_text())
    return {key: value for key, value in report.items() if key not in ("output", "seconds")}


def make_noise(path, height, width, seed=0, **more):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path, **more)


def paint(path, size, seed=0, *, black=0.5, **more):
    """A mask of (width, height) px whose upper part is black, with large places of other levels below."""
    levels = np.random.default_rng(seed).choice([0, 1, 128, 255], (5, 4)).astype(np.uint8)
    levels[: round(5 * black)] = 0
    Image.fromarray(levels).resize(size, Image.Resampling.NEAREST).save(path, **more)


def after(monkeypatch, count, act):
    """Have something happen when so many pieces of the result were made."""
    made, original = [], Spool.add

    def add(self, pixels):
        original(self, pixels)
        made.append(pixels)
        if len(made) == count:
            act()

    monkeypatch.setattr(Spool, "add", add)


def stop():
    raise KeyboardInterrupt
