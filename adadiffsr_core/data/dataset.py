"""Photographs as training pairs: which to train on, crops of them, and the low-quality twin of each crop."""

import csv
import hashlib
import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ..config import Config, Side
from ..errors import ConfigError, ImageError
from ..files import read_small_file
from ..text import shown
from .degradation.filtering import import_cv2
from .degradation.ranges import check_probabilities, check_range
from .degradation.single import MILD_BLUR, DegradationConfig, degrade, from_levels, to_levels
from .flat_colours import paint_flats
from .photo_files import load_image

SOURCES = "SOURCES.tsv"  # beside photographs: which are crops of which
_LONGEST = 64 * 10**6  # bytes of it


class PhotoSplit(NamedTuple):
    """Files to train on, and files to measure on, which show none of the same photographs."""

    train: list[Path]
    held_out: list[Path]


def _read_sources(folder: Path) -> dict[str, str]:
    """File name -> photograph, of a folder's SOURCES.tsv; empty when there is none."""
    table = folder / SOURCES
    if not table.is_file():
        return {}
    try:
        # Letters of names that are none are read as in names of files.
        lines = io.StringIO(read_small_file(table, _LONGEST).decode("utf-8", "surrogateescape"), newline="")
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = {"crop", "photo"} - set(rows.fieldnames or ())
        if missing:
            raise ImageError(
                f"{table} has no column {' and '.join(sorted(missing))}; its first line must name its columns"
            )
        # two sources may both have a DSC0001.jpg
        return {row["crop"]: f"{row.get('source', '')}\t{row['photo']}" for row in rows}
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError(f"{table} cannot be read as a table: {shown(str(reason), 80)}") from error


def split_photos(paths: Sequence[Path], holdout: float, seed: int = 0) -> PhotoSplit:
    """Hold out about a share `holdout` of all photographs, with every crop of each.

    A photograph is held out by a hash of its name, so that adding files moves no other file. Crops of one photograph
    are told by a `SOURCES.tsv` beside them (tab-separated, columns `crop`, `photo` and, if ids repeat, `source`); a
    file that it does not list is a photograph of its own.

    Raises:
        ConfigError: `holdout` is not in [0,1].
        ImageError: a SOURCES.tsv lacks a column, or cannot be read.
    """
    check_probabilities({"holdout": holdout})
    sources = {folder: _read_sources(folder) for folder in {path.parent for path in paths}}
    split = PhotoSplit([], [])
    for path in paths:
        photo = sources[path.parent].get(path.name, path.name)
        digest = hashlib.blake2b(os.fsencode(f"{seed}\t{photo}"), digest_size=8).digest()
        split[int.from_bytes(digest, "big") < holdout * 2**64].append(path)
    return split


def draw_crop(image: np.ndarray, size_px: int, rng: np.random.Generator, min_scale: float) -> np.ndarray:
    """Draw a square crop, uint8 `[size_px,size_px,3]`, of uint8 `[H,W,3]`, turned and mirrored in one of eight ways.

    The image is made smaller by a factor from `min_scale` to 1 first, as far as it is large enough. One that is smaller
    than the crop is continued by reflection: enlarging it would teach blur as truth.
    """
    cv2 = import_cv2()
    height, width = image.shape[:2]
    down, right = max(0, size_px - height), max(0, size_px - width)
    if down or right:
        image = cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_REFLECT_101)
    scale = rng.uniform(min(1.0, max(min_scale, size_px / min(image.shape[:2]))), 1.0)
    window = min(round(size_px / scale), *image.shape[:2])
    y, x = (int(rng.integers(side - window, endpoint=True)) for side in image.shape[:2])
    crop = image[y : y + window, x : x + window]
    if window != size_px:
        crop = cv2.resize(crop, (size_px, size_px), interpolation=cv2.INTER_AREA)
    crop = np.rot90(crop, int(rng.integers(4)))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


class PhotoCache:
    """Decoded pictures, the least recently used given up first; each process has its own.

    Args:
        budget_mb: of pixels; 0 keeps nothing.
    """

    def __init__(self, budget_mb: float) -> None:
        self.budget = int(budget_mb * 2**20)
        self.held = 0
        self._images: OrderedDict[Path, np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        # a worker that is spawned reads for itself; sending it the pixels would take longer
        return {"budget": self.budget, "held": 0, "_images": OrderedDict()}

    def load(self, path: Path) -> np.ndarray:
        """What `load_image` gives, uint8 `[H,W,3]`; not to be written to."""
        image = self._images.pop(path, None)
        if image is None:
            image = load_image(path)
            self.held += image.nbytes
        self._images[path] = image
        while self.held > self.budget:
            self.held -= self._images.popitem(last=False)[1].nbytes
        return image


@dataclass(frozen=True, kw_only=True)
class PairConfig(Config):
    """How pairs are drawn from photographs.

    Attributes:
        size_px: side of a pair, a multiple of both degradations' scale.
        min_scale: crops are made smaller by up to this factor, for variety.
        mild_prob: that a pair is degraded by the milder of the two pipelines.
        mild_blur: how far that one blurs; see `DegradationConfig.mild`.
        scales: smallest and largest; how many times smaller the low-quality picture is before it is brought back, drawn
            evenly from between them. None is as the pipelines have it, 4 times.
        flat_share: of the pairs that show a plain colour, or two, in a photograph's place: on what is flat, noise and
            artefacts are all that there is to take away.
        cache_mb: decoded pictures that each worker may hold; 1,500 of 512 px need 1,200.
    """

    size_px: Side = 256
    min_scale: float = 0.5
    mild_prob: float = 0.3
    mild_blur: tuple[float, float] = MILD_BLUR
    scales: tuple[float, float] | None = None
    flat_share: float = 0.0
    cache_mb: float = 512.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probabilities({"mild_prob": self.mild_prob, "flat_share": self.flat_share})
        check_range("mild_blur", self.mild_blur, 0.05)
        if self.scales is not None:
            check_range("scales", self.scales, 1)
        if self.size_px < 1 or not 0 < self.min_scale <= 1 or self.cache_mb < 0:
            raise ConfigError(
                "size_px must be positive, min_scale in (0,1] and cache_mb not negative, got "
                f"{self.size_px}, {self.min_scale}, {self.cache_mb}"
            )


def check_size(size_px: int, multiple: int, who: str) -> None:
    """Refuse pairs of a side that networks cannot take.

    Args:
        size_px: side of a pair.
        multiple: what it must be a multiple of, px.
        who: in words: `this model needs`.

    Raises:
        ConfigError: it is none.
    """
    if size_px % multiple:
        raise ConfigError(f"size_px {size_px} is not a multiple of {multiple}, as {who}")


class PairDataset(Dataset[tuple[Tensor, Tensor]]):
    """Endlessly varied pairs `(gt, lq_up)`, both uint8 `[3,S,S]`: item i depends on the seed and i alone.

    `lq_up` is the degraded crop brought back to the size of `gt` by bicubic interpolation, as a user's photograph is
    before it is encoded.

    Args:
        paths: photographs to draw from.
        config: how to draw.
        seed: of everything that is drawn.
        length: number of items, such as training steps times batch size.
        mild: the milder of the two pipelines that `config.mild_prob` chooses between; None is the usual one.

    Raises:
        ConfigError: there is no photograph, or `size_px` is no multiple of a pipeline's scale.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: PairConfig,
        seed: int,
        length: int,
        mild: DegradationConfig | None = None,
    ) -> None:
        self.paths, self.config, self.seed, self.length = list(paths), config, seed, length
        self.pipelines = DegradationConfig(), mild or DegradationConfig.mild(config.mild_blur)
        self.cache = PhotoCache(config.cache_mb)
        if not self.paths:
            raise ConfigError("there is no photograph to train on")
        for pipeline in self.pipelines:
            if config.scales is None and config.size_px % pipeline.scale:
                raise ConfigError(
                    f"size_px {config.size_px} is not a multiple of the degradation's scale {pipeline.scale:g}"
                )
        if config.scales is not None and config.size_px < config.scales[1]:
            raise ConfigError(f"size_px {config.size_px} cannot be made {config.scales[1]:g} times smaller")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Draw pair `index`.

        Raises:
            IndexError: `index` is not in [0, length).
            ImageError: a photograph cannot be read.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"pair {index} of {self.length}")
        cv2 = import_cv2()
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # the workers are the threads; a forked pool of OpenCV's would hang
        rng = np.random.Generator(np.random.SFC64([self.seed, index]))
        image = self.cache.load(self.paths[rng.integers(len(self.paths))])
        gt = draw_crop(image, self.config.size_px, rng, self.config.min_scale)
        if self.config.flat_share:
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            painted = paint_flats(
                torch.from_numpy(from_levels(gt)).permute(2, 0, 1)[None], self.config.flat_share, generator
            )
            gt = to_levels(painted[0].permute(1, 2, 0).numpy())
        pipeline = self.pipelines[int(rng.random() < self.config.mild_prob)]
        if self.config.scales is not None:
            pipeline = replace(pipeline, scale=float(rng.uniform(*self.config.scales)))
        lq = degrade(from_levels(gt), rng, pipeline)
        lq_up = cv2.resize(to_levels(lq), gt.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        return torch.from_numpy(gt).permute(2, 0, 1).contiguous(), torch.from_numpy(lq_up).permute(2, 0, 1).contiguous()
