"""Files as a few parts of limited size with a manifest, and back again: equal to the bit, or refused."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adadiffsr_core.errors import CheckpointError
from adadiffsr_core.files import whole_file

MANIFEST = "manifest.json"
_FORMAT = "adadiffsr-parts/1"
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may come back from the machine.

    Attributes:
        files: how many, the manifest counted in.
        part_bytes: of one; a little below the 16 MiB that are allowed.
        total_bytes: of all, a little below the 64 MiB that are allowed.
    """

    files: int = 8
    part_bytes: int = 15 * _MIB
    total_bytes: int = 62 * _MIB


def split_files(
    files: Mapping[str, Path], out: Path, notes: Mapping[str, Any] | None = None, limits: Limits | None = None
) -> list[str]:
    """Write files as parts, and the manifest last.

    Args:
        files: by the names they are to have again, the most important first.
        out: folder for the parts, made if need be.
        notes: goes into the manifest.
        limits: a file that would break them is left out as a whole, and the manifest says so.

    Returns:
        Names that were left out.
    """
    limits = limits or Limits()
    out.mkdir(parents=True, exist_ok=True)
    entries: dict[str, Any] = {}
    left_out, count, total = [], 1, 0
    for name, path in files.items():
        content = path.read_bytes()  # once: the file may be replaced by a newer one meanwhile
        needed = max(1, -(-len(content) // limits.part_bytes))
        if count + needed > limits.files or total + len(content) > limits.total_bytes:
            left_out.append(name)
            continue
        entries[name] = _split(name, content, out, limits.part_bytes)
        count, total = count + needed, total + len(content)
    manifest = {"format": _FORMAT, "files": entries, "left_out": left_out, "notes": dict(notes or {})}
    with whole_file(out / MANIFEST) as partial:
        partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return left_out


def _split(name: str, content: bytes, out: Path, part_bytes: int) -> dict[str, Any]:
    """Write one file's parts; its entry in the manifest."""
    parts = []
    for number, start in enumerate(range(0, max(1, len(content)), part_bytes)):
        piece = content[start : start + part_bytes]
        part = f"{name}.part{number}"
        (out / part).write_bytes(piece)
        parts.append({"name": part, "bytes": len(piece), "sha256": _digest(piece)})
    return {"bytes": len(content), "sha256": _digest(content), "parts": parts}


def join_parts(folder: Path, out: Path) -> list[Path]:
    """Put together what `split_files` wrote; each file appears whole or not at all.

    Args:
        folder: of the parts, or the one above it.
        out: folder for the files, made if need be.

    Returns:
        The files.

    Raises:
        CheckpointError: the manifest or a part is missing, or is damaged; no file of it is written.
    """
    folder = _with_manifest(folder)
    entries = _read_manifest(folder)["files"]
    for name, entry in entries.items():
        with whole_file(out / name) as partial:
            digest = hashlib.sha256()
            with partial.open("wb") as file:
                for piece in _read_parts(folder, entry["parts"]):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != entry["sha256"]:
                raise CheckpointError(f"the parts of {name} in {folder} do not make up the file; fetch them again")
    return [out / name for name in entries]


def _with_manifest(folder: Path) -> Path:
    for place in (folder, *sorted(path for path in folder.glob("*") if path.is_dir())):
        if (place / MANIFEST).is_file():
            return place
    raise CheckpointError(f"{folder} holds no {MANIFEST}; name the folder of the parts")


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / MANIFEST} cannot be read: {error}") from error
    if manifest.get("format") != _FORMAT:
        raise CheckpointError(f"{folder / MANIFEST} is not a manifest of parts")
    names = [name for key, entry in manifest["files"].items() for name in (key, *(p["name"] for p in entry["parts"]))]
    if bad := [name for name in names if Path(name).name != name]:
        raise CheckpointError(f"{folder / MANIFEST} names {bad[0]}, which lies elsewhere")
    return manifest


def _read_parts(folder: Path, parts: list[dict[str, Any]]) -> Iterator[bytes]:
    for part in parts:
        path = folder / part["name"]
        if not path.is_file():
            raise CheckpointError(f"{path} is missing; fetch all parts")
        piece = path.read_bytes()
        if _digest(piece) != part["sha256"]:
            raise CheckpointError(
                f"{path} is damaged: {len(piece)} bytes of another content than the {part['bytes']} that were written; "
                "fetch it again"
            )
        yield piece


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
