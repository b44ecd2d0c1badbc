"""Test sets of `adadiffsr eval`: pairs, photographs without a truth, and pairs made by our own degradation."""

import os
from collections.abc import Callable, Iterable, Sequence
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

Half = Literal["first", "second"]
SCALE = 4
IMAGE_SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff"})
# How public test sets mark the sides of a pair: RealSR 001_LR4 and 001_HR, DRealSR 10_x4 and 10_x1, DIV2K 0801x4.
SIDE_MARKS = ("_LR4", "_LR", "_HR", "_LQ", "_GT", "_x4", "_x1", "x4")
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


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name.

    Raises:
        ImageError: the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not images:
        raise ImageError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return images


def pair_name(path: Path) -> str:
    """The stem without the one mark that tells low quality from truth: `Canon_001_LR4.png` -> `Canon_001`."""
    for mark in SIDE_MARKS:
        if path.stem.lower().endswith(mark.lower()) and len(path.stem) > len(mark):
            return path.stem[: -len(mark)]
    return path.stem


def name_files(paths: Iterable[Path], name: Callable[[Path], str]) -> dict[str, Path]:
    """Files by what they are called in tables, in their order.

    Raises:
        ImageError: two have the same name, so that the numbers of one would be lost.
    """
    named: dict[str, Path] = {}
    for path in paths:
        if (other := named.setdefault(name(path), path)) != path:
            raise ImageError(f"{other} and {path} both mean {name(path)}; rename one")
    return named


def read_pairs(name: str, folders: Sequence[Path]) -> list[Picture]:
    """A set of two folders, paired by `pair_name` and sorted; files without a partner are left out.

    Raises:
        ConfigError: there are not two.
        ImageError: a folder is missing or empty, nothing pairs, or two files of one folder have the same name.
    """
    if len(folders) != 2:
        raise ConfigError(f"pairs of {name} need two folders, LQ_FOLDER:GT_FOLDER")
    lq, gt = (name_files(list_images(folder), pair_name) for folder in folders)
    names = sorted(lq.keys() & gt.keys())
    if not names:
        raise ImageError(
            f"no image of {folders[0]} (such as {min(lq)}) has a partner in {folders[1]} (such as {min(gt)})"
        )
    return [Picture(name, pair, lq[pair], gt[pair]) for pair in names]


def read_photos(name: str, folders: Sequence[Path]) -> list[Picture]:
    """A set without truths.

    Raises:
        ImageError: a folder is missing or empty, or two files have the same name.
    """
    found = name_files((path for folder in folders for path in list_images(folder)), pair_name)
    return [Picture(name, short, path, None) for short, path in found.items()]


def make_pairs(name: str, folders: Sequence[Path], out: Path) -> list[Picture]:
    """Degrade good photographs four times smaller, by the Real-ESRGAN pipeline; pairs that are there are kept.

    The truth is cut to a multiple of 4 px. What is done to it depends on its file's name alone; a pair whose photograph
    is another one now is made again.

    Source: section 4.2, "we follow the above degradation strategy and generate LR-HR pairs".

    Raises:
        ImageError: a folder is missing or empty, two files have the same name, or a picture is too small.
    """
    made = []
    found = name_files((path for folder in folders for path in list_images(folder)), lambda path: path.stem)
    for path in found.values():
        lq, gt = (out / name / side / f"{path.stem}.png" for side in ("lq", "gt"))
        truth = read_photo(path).pixels
        height, width = (side // SCALE * SCALE for side in truth.shape[-2:])
        if min(height, width) < SCALE:
            size = f"{truth.shape[-1]} x {truth.shape[-2]} px"
            raise ImageError(f"{path} has {size}, and a truth at least {SCALE} on each side; leave it out")
        levels = _levels(truth[:, :height, :width])
        if not (lq.exists() and gt.exists() and np.array_equal(_levels(read_photo(gt).pixels), levels)):
            rng = np.random.default_rng([0, *os.fsencode(path.stem)])
            small = to_levels(degrade(from_levels(levels), rng, DegradationConfig()))
            for picture, target in ((small, lq), (levels, gt)):  # by the truth a pair is known, so it comes last
                target.parent.mkdir(parents=True, exist_ok=True)
                pixels = torch.from_numpy(np.ascontiguousarray(from_levels(picture))).permute(2, 0, 1)
                write_photo(Photo(pixels=pixels), target)
        made.append(Picture(name, path.stem, lq, gt))
    return made


def _levels(pixels: torch.Tensor) -> np.ndarray:
    return to_levels(pixels.permute(1, 2, 0).numpy())


def choose(
    pictures: Sequence[Picture], half: Half | None = None, every: int = 1, limit: int | None = None
) -> list[Picture]:
    """Some of a set's pictures, which are sorted by name: a half (every second one), of it every so many-th."""
    start = {"first": 0, "second": 1, None: 0}[half]
    kept = list(pictures)[start :: 1 if half is None else 2]
    return kept[::every][:limit]
