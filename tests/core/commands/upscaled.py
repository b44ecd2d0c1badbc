"""Photographs for `adadiffsr upscale`, the line that it says of each, and the files that it leaves."""

import re

import numpy as np
from PIL import Image

from adadiffsr_core.commands.journal import NAME as JOURNAL

SIDE = 20
DONE = re.compile(r"^(.+): (\d+) of (\d+) evaluations spent \((-?\d+) % saved\), \d+\.\d s$")


def make_photo(path, mode="RGB", side=SIDE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(0, 256, (side, side + 4, 4), dtype=np.uint8)
    image = Image.fromarray(levels)
    if mode == "I;16":
        image = Image.fromarray(levels[..., 0].astype(np.uint16) * 257 + 3)
    elif mode != "RGBA":
        image = image.convert("RGB").convert(mode)
    image.save(path)
    return path


def files_in(folder):
    """All but the journal of a folder of results."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != JOURNAL]
    return sorted(str(path.relative_to(folder)) for path in files)
