"""Photographs for the journey: which crops of which, and how they are encoded."""

import csv
import hashlib
import io
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from adadiffsr_core.data.photo_files import load_image
from adadiffsr_core.errors import ConfigError, ImageError
from adadiffsr_core.files import read_small_file

_COLUMNS = ("crop", "source", "photo")  # those that the split is made from
_LONGEST = 64 * 10**6  # bytes of a table


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How a photograph is written.

    Attributes:
        codec: `jpeg`, `webp` or `avif`. JPEG keeps colour at full resolution and the strength of fine texture, where
            WebP smooths both, which would be learnt (docs/training.md has figures).
        quality: 1 to 100, of the codec.
        scale: Lanczos, before encoding: a smaller truth is a sharper one, and hides what the file had of artefacts.
    """

    codec: str = "jpeg"
    quality: int = 78
    scale: float = 0.75

    def __post_init__(self) -> None:
        if self.codec not in _OPTIONS:
            raise ConfigError(f"codec must be one of {', '.join(_OPTIONS)}, got {self.codec}")
        if not 1 <= self.quality <= 100 or not 0 < self.scale <= 1:
            raise ConfigError(f"quality goes from 1 to 100 and scale to 1, got {self.quality} and {self.scale}")

    def encode(self, path: Path) -> bytes:
        """A photograph's new file."""
        image = Image.fromarray(load_image(path))
        if self.scale < 1:
            width, height = (max(1, round(side * self.scale)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.save(stream, self.codec, quality=self.quality, **_OPTIONS[self.codec])
        return stream.getvalue()


_OPTIONS: dict[str, dict[str, object]] = {
    "jpeg": {"optimize": True, "progressive": True, "subsampling": "4:4:4"},
    "webp": {"method": 6},
    "avif": {"speed": 6, "subsampling": "4:4:4"},
}
_SUFFIXES = {"jpeg": ".jpg", "webp": ".webp", "avif": ".avif"}


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A file to take along.

    Attributes:
        path: of the original.
        row: its line of SOURCES.tsv, or None if there is none.
    """

    path: Path
    row: dict[str, str] | None

    @property
    def photo(self) -> str:
        """What it shows; crops of one photograph agree in this."""
        return str(self.path) if self.row is None else f"{self.row.get('source', '')}\t{self.row['photo']}"

    def packed_name(self, codec: str) -> str:
        """Its name in the pack.

        The split goes by the table, or by the name where a file is in none: such a file must keep it, whatever its
        content now is (readers look at the content).
        """
        suffix = _SUFFIXES[codec]
        keeps = self.row is None or self.path.suffix.lower() == suffix
        return self.path.name if keeps else self.path.name + suffix


def list_crops(paths: Sequence[Path]) -> list[Crop]:
    """All photographs with what their folders' tables say of them."""
    tables = {folder: _read_table(folder) for folder in {path.parent for path in paths}}
    return [Crop(path=path, row=tables[path.parent].get(path.name)) for path in paths]


def _read_table(folder: Path) -> dict[str, dict[str, str]]:
    table = folder / "SOURCES.tsv"
    if not table.is_file():
        return {}
    lines = io.StringIO(read_small_file(table, _LONGEST).decode("utf-8", "surrogateescape"), newline="")
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows and not {"crop", "photo"} <= rows[0].keys():
        raise ImageError(f"{table} has no columns crop and photo")
    return {row["crop"]: row for row in rows}


def order_crops(crops: Sequence[Crop], seed: int, known: Container[str] = ()) -> Iterator[Crop]:
    """One crop of every photograph, then a second of those that have one, and so on; then the known ones likewise.

    Another photograph teaches more than another corner of the same. The order is a hash's.

    Args:
        crops: to order.
        seed: of the order.
        known: names of crops that have travelled before.
    """
    yield from _take_turns([crop for crop in crops if crop.path.name not in known], seed)
    yield from _take_turns([crop for crop in crops if crop.path.name in known], seed)


def _take_turns(crops: Sequence[Crop], seed: int) -> Iterator[Crop]:
    photos: dict[str, list[Crop]] = {}
    for crop in sorted(crops, key=lambda crop: _hash(seed, crop.path.name)):
        photos.setdefault(crop.photo, []).append(crop)
    shuffled = sorted(photos, key=lambda photo: _hash(seed, photo))
    for turn in range(max((len(found) for found in photos.values()), default=0)):
        yield from (photos[photo][turn] for photo in shuffled if turn < len(photos[photo]))


def _hash(seed: int, name: str) -> bytes:
    # Not the split's hash: in its order the photographs that are held out all come first.
    return hashlib.blake2b(os.fsencode(f"journey\t{seed}\t{name}"), digest_size=8).digest()


def write_photographs(
    crops: Iterable[Crop], roots: Sequence[Path], out: Path, budget: int, encoding: Encoding
) -> list[tuple[Crop, Path]]:
    """Encode crops in their order until no more fit.

    Args:
        crops: to choose from, in their order.
        roots: folders that they were found in; sub-folders stay.
        out: for the new files and tables.
        budget: bytes of all of it.
        encoding: of the new files.

    Returns:
        What was taken, and its new file.
    """
    taken, used = [], 0
    for crop in crops:
        content = encoding.encode(crop.path)
        path = out / _folder_of(crop.path, roots) / crop.packed_name(encoding.codec)
        line = 0 if crop.row is None else len(os.fsencode(_line(crop, path)))
        if used + len(content) + line > budget - 1024:  # for the tables' first lines
            break
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        used += len(content) + line
        taken.append((crop, path))
    _write_tables(taken)
    return taken


def _folder_of(path: Path, roots: Sequence[Path]) -> Path:
    """Where below the pack's photographs; several roots get a folder each, as they may have the same names."""
    number, root = next((n, root) for n, root in enumerate(roots) if path.is_relative_to(root))
    inner = path.parent.relative_to(root)
    return inner if len(roots) == 1 else Path(str(number)) / inner


def _line(crop: Crop, path: Path) -> str:
    values = {**(crop.row or {}), "crop": path.name}
    return "\t".join(values.get(name) or "" for name in _COLUMNS) + "\n"


def _write_tables(taken: Sequence[tuple[Crop, Path]]) -> None:
    tables: dict[Path, list[str]] = {}
    for crop, path in taken:
        if crop.row is not None:
            tables.setdefault(path.parent, []).append(_line(crop, path))
    for folder, lines in tables.items():
        text = "\t".join(_COLUMNS) + "\n" + "".join(sorted(lines))
        (folder / "SOURCES.tsv").write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
