"""Running an evaluation: every method on every picture and seed, measured once and kept on disk."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError, MissingExtraError, ShapeError
from ..metrics.base import Metric
from ..metrics.registry import create_metric, metric_info
from ..photo.reading import read_photo
from ..photo.value import Photo
from ..photo.writing import write_photo
from .measure import ResultStore, measure
from .methods import Method
from .restore import Bench, Restored, distance_to_full, full_steps
from .sets import SCALE, Picture
from .tables import Table

# What a picture is compared with that of all steps by.
FULL_METRICS = ("psnr", "ssim")


@dataclass(frozen=True)
class Metrics:
    """The metrics that can be computed here, and why others cannot.

    Attributes:
        usable: by name.
        missing: a sentence for each of the others.
    """

    usable: Mapping[str, Metric]
    missing: Mapping[str, str]

    def fitting(self, has_truth: bool) -> dict[str, Metric]:
        """Those that can be computed with or without a truth."""
        return {name: metric for name, metric in self.usable.items() if has_truth or not metric.info.needs_reference}


def load_metrics(names: Sequence[str], weights_folder: Path | None, device: torch.device | str = "cpu") -> Metrics:
    """Load what can be had, to a device.

    Raises:
        ConfigError: a name is unknown.
    """
    usable: dict[str, Metric] = {}
    missing: dict[str, str] = {}
    for name in names:
        metric_info(name)
        try:
            usable[name] = create_metric(name, device, weights_folder)
        except (CheckpointError, MissingExtraError) as error:
            missing[name] = str(error)
    return Metrics(usable, missing)


@dataclass(frozen=True)
class Evaluation:
    """What to run, and where its numbers are.

    Attributes:
        out: folder of everything.
        bench: the networks.
        networks: fingerprints of them, and what they run on; see `Method.fingerprint`.
        pictures: of all test sets.
        seeds: of the noise; methods that draw none use the first.
        metrics: to measure.
        kinds: what each test set is: `pairs`, `photos` or `synthetic`.
        share: this process's number and how many there are; pictures are dealt out among them.
    """

    out: Path
    bench: Bench
    networks: Mapping[str, str]
    pictures: Sequence[Picture]
    seeds: Sequence[int]
    metrics: Metrics
    kinds: Mapping[str, str]
    share: tuple[int, int] = (0, 1)

    def chosen(self, table: Table, method: Method) -> list[Picture]:
        """The pictures that a table shows a method on."""
        sets = list(dict.fromkeys(picture.dataset for picture in self.pictures))
        if table.wants != "all":
            wanted = ("pairs", "synthetic") if table.wants == "pairs" else (table.wants,)
            sets = [name for name in sets if self.kinds[name] in wanted]
        if preferred := [name for name in sets if name in table.prefers]:
            sets = preferred
        if method.folder is not None:
            sets = [name for name in sets if (method.folder / name).is_dir()]
        step = table.every * method.every
        groups = [[picture for picture in self.pictures if picture.dataset == name] for name in sets]
        return [picture for group in groups for picture in group[::step]]

    def seeds_of(self, method: Method) -> Sequence[int]:
        """Every seed for methods that draw noise, the first for others."""
        return self.seeds if method.kind == "sampled" else self.seeds[:1]

    def values(self, method: Method) -> dict[str, dict[str, float]]:
        """All numbers of a method, by `dataset/name/seed`, of each process that has measured any."""
        merged: dict[str, dict[str, float]] = {}
        for path in sorted((self.out / "values").glob(f"*-{method.fingerprint(self.networks)}.*.json")):
            for key, row in ResultStore(path).items():
                merged[key] = {**merged.get(key, {}), **row}
        return merged

    def run(self, tables: Sequence[Table]) -> Iterator[str]:
        """Measure what is missing of this process's share, picture by picture; yields a word on each result."""
        number, of = self.share
        # By fingerprint: what two tables call by two names is measured once, as a run that is resumed would.
        prints = {method: method.fingerprint(self.networks) for table in tables for method in table.methods}
        done = {name: self.values(method) for method, name in prints.items()}
        for place, picture in enumerate(self.pictures):
            if place % of != number:
                continue
            for table in tables:
                for method in table.methods:
                    if picture in self.chosen(table, method):
                        for seed in self.seeds_of(method):
                            if self._measure(table, method, picture, seed, done[prints[method]]):
                                yield f"{method.name} {picture.key} seed {seed}"

    def _measure(
        self, table: Table, method: Method, picture: Picture, seed: int, done: dict[str, dict[str, float]]
    ) -> bool:
        key = f"{picture.key}/{seed}"
        have = done.setdefault(key, {})
        wanted = {name: m for name, m in self.metrics.fitting(picture.gt is not None).items() if name not in have}
        full = self._full_metrics(table, method, have)
        if not wanted and not full:
            return False
        truth = None if picture.gt is None else read_photo(picture.gt).pixels[None]
        try:
            made = self.bench.restore(method, picture, seed)
            _check_size(method, picture, made, truth)
            row = {"nfe": made.nfe, "seconds": made.seconds} | measure(made.image, truth, wanted)
            if full:
                row |= distance_to_full(made.image, self._full(method, picture, seed).image, full)
        except ShapeError as error:
            raise ShapeError(f"{picture.lq} cannot be measured: {error}") from error
        self._store(method).add(key, row)
        have.update(row)
        return True

    def _full_metrics(self, table: Table, method: Method, have: Mapping[str, float]) -> dict[str, Metric]:
        if table.name != "curve" or method.kind != "sampled" or method.sampling == full_steps(method).sampling:
            return {}
        usable = self.metrics.usable
        return {name: usable[name] for name in FULL_METRICS if name in usable and f"full_{name}" not in have}

    def _full(self, method: Method, picture: Picture, seed: int) -> Restored:
        """The picture of all steps, made once for each seed."""
        full = full_steps(method)
        name = f"{picture.dataset}-{picture.name}-{seed}.png"
        path = self.out / "full" / full.fingerprint(self.networks) / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = self.bench.restore(full, picture, seed)
            write_photo(Photo(pixels=made.image[0]), path)
        return Restored(read_photo(path).pixels[None])

    def _store(self, method: Method) -> ResultStore:
        word = "".join(letter if letter.isalnum() else "_" for letter in method.name)
        return ResultStore(self.out / "values" / f"{word}-{method.fingerprint(self.networks)}.{self.share[0]}.json")


def _check_size(method: Method, picture: Picture, made: Restored, truth: Tensor | None) -> None:
    """Refuse a truth of another size by the names of the files, which metrics do not know."""
    if truth is not None and truth.shape != made.image.shape:
        (high, wide), (height, width) = truth.shape[-2:], made.image.shape[-2:]
        raise ShapeError(
            f"{picture.gt} has {wide} x {high} px, and what {method.name} makes of it {width} x {height}; a truth is "
            f"{SCALE} times as large as the low quality"
        )
