"""Test sets: which low-quality file belongs to which ground truth."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError

IMAGE_SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff"})
# How public test sets mark the sides of a pair: RealSR 001_LR4 and 001_HR, DRealSR 10_x4 and 10_x1, DIV2K 0801x4.
SIDE_MARKS = ("_LR4", "_LR", "_HR", "_LQ", "_GT", "_x4", "_x1", "x4")


@dataclass(frozen=True)
class Pair:
    """One test image: a name for tables, the low-quality file and the ground truth."""

    name: str
    lq: Path
    gt: Path


def list_images(folder: Path) -> list[Path]:
    """The image files directly in a folder, sorted by name.

    Raises:
        ImageError: the folder does not exist or holds no image.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder")
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
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


def find_pairs(lq_folder: Path, gt_folder: Path) -> list[Pair]:
    """Pair two folders by `pair_name`, sorted; files without a partner are left out.

    Raises:
        ImageError: a folder is missing or empty, nothing pairs, or two files of one folder have the same name.
    """
    lq, gt = (name_files(list_images(folder), pair_name) for folder in (lq_folder, gt_folder))
    names = sorted(lq.keys() & gt.keys())
    if not names:
        raise ImageError(
            f"no image of {lq_folder} (such as {min(lq)}) has a partner in {gt_folder} (such as {min(gt)})"
        )
    return [Pair(name, lq[name], gt[name]) for name in names]
