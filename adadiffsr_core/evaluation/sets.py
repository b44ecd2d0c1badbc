"""Test sets of `adadiffsr eval`: pairs, photographs without a truth, and pairs made by our own degradation."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ..data.degradation.single import DegradationConfig, degrade, from_levels, to_levels
from ..errors import ConfigError, ImageError
from ..files import check_file_name
from ..photo.reading import read_photo
from ..photo.value import Photo
from ..photo.writing import write_photo
from ..text import quoted
from .pairs import find_pairs, list_images, name_files, pair_name

Half = Literal["first", "second"]
SCALE = 4
_FORMS = "NAME=FOLDER, or NAME=LQ_FOLDER:GT_FOLDER for pairs"


@dataclass(frozen=True)
class Picture:
    """One test image: its set, its name, the low-quality file and, if there is one, the truth."""

    dataset: str
    name: str
    lq: Path
    gt: Path | None

    @property
    def key(self) -> str:
        """Of its numbers."""
        return f"{self.dataset}/{self.name}"


def parse_set(text: str) -> tuple[str, list[Path]]:
    """`NAME=FOLDER` or `NAME=LQ:GT` to a name and folders.

    Raises:
        ConfigError: it is neither, or the name could not name a folder.
    """
    name, rest = parse_named(text)
    folders = rest.split(":")
    if not all(folders):
        raise ConfigError(f"{quoted(text, 80)} must be {_FORMS}")
    return name, [Path(folder) for folder in folders]


def parse_named(text: str) -> tuple[str, str]:
    """`NAME=PATH` to its two parts.

    Raises:
        ConfigError: it is none, or the name could not name a folder within another.
    """
    name, mark, rest = text.partition("=")
    if not (name and mark and rest) or {"/", "\\"} & set(name):
        raise ConfigError(f"{quoted(text, 80)} must be {_FORMS}")
    check_file_name(name)
    return name, rest


def read_pairs(name: str, folders: Sequence[Path]) -> list[Picture]:
    """A set of two folders.

    Raises:
        ConfigError: there are not two.
        ImageError: see `find_pairs`.
    """
    if len(folders) != 2:
        raise ConfigError(f"pairs of {name} need two folders, LQ_FOLDER:GT_FOLDER")
    return [Picture(name, pair.name, pair.lq, pair.gt) for pair in find_pairs(*folders)]


def read_photos(name: str, folders: Sequence[Path]) -> list[Picture]:
    """A set without truths.

    Raises:
        ImageError: a folder is missing or empty, or two files have the same name.
    """
    found = name_files((path for folder in folders for path in list_images(folder)), pair_name)
    return [Picture(name, short, path, None) for short, path in found.items()]


def make_pairs(name: str, folders: Sequence[Path], out: Path, seed: int = 0) -> list[Picture]:
    """Degrade good photographs four times smaller, by the Real-ESRGAN pipeline; files that are there are kept.

    The truth is cut to a multiple of 4 px. Picture i depends on the seed and its file name alone.

    Source: section 4.2, "we follow the above degradation strategy and generate LR-HR pairs".

    Raises:
        ImageError: a folder is missing or empty, two files have the same name, or a picture is too small.
    """
    made = []
    found = name_files((path for folder in folders for path in list_images(folder)), lambda path: path.stem)
    for path in found.values():
        lq, gt = (out / name / side / f"{path.stem}.png" for side in ("lq", "gt"))
        if not lq.exists():
            truth = read_photo(path).pixels
            height, width = (side // SCALE * SCALE for side in truth.shape[-2:])
            if min(height, width) < SCALE:
                size = f"{truth.shape[-1]} x {truth.shape[-2]} px"
                raise ImageError(f"{path} has {size}, and a truth at least {SCALE} on each side; leave it out")
            truth = truth[:, :height, :width]
            rng = np.random.default_rng([seed, *os.fsencode(path.stem)])
            levels = to_levels(truth.permute(1, 2, 0).numpy())
            small = to_levels(degrade(from_levels(levels), rng, DegradationConfig()))
            _write(truth, gt)
            _write(torch.from_numpy(np.ascontiguousarray(small)).permute(2, 0, 1).float() / 255, lq)
        made.append(Picture(name, path.stem, lq, gt))
    return made


def _write(pixels: torch.Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_photo(Photo(pixels=pixels), path)


def choose(
    pictures: Sequence[Picture], half: Half | None = None, every: int = 1, limit: int | None = None
) -> list[Picture]:
    """Some of a set's pictures, which are sorted by name: a half (every second one), of it every so many-th."""
    start = {"first": 0, "second": 1, None: 0}[half]
    kept = list(pictures)[start :: 1 if half is None else 2]
    return kept[::every][:limit]
