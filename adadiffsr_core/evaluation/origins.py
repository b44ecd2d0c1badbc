"""What numbers were measured on: an evaluation that goes on must find the same pictures under the same names."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.origin import read_note
from ..errors import ConfigError
from ..files import fingerprint_content, whole_file
from ..photo.admission import is_picture
from .sets import IMAGE_SUFFIXES, Picture


def claim_pictures(out: Path, pictures: Sequence[Picture], others: Mapping[str, Path]) -> None:
    """Note what is measured under which name, or see that it is what was measured before.

    Args:
        out: folder of everything.
        pictures: of all test sets.
        others: folders of other methods' results, by method.

    Raises:
        ConfigError: a picture is another one than before, or what was noted cannot be read.
    """
    path = out / "pictures.json"
    files = list_files(pictures, others)
    known = read_note(path) if path.exists() else {}
    if not isinstance(known, dict):
        raise ConfigError(f"{path} is damaged; remove {out} to measure anew, or choose another --out")
    found = {name: fingerprint_content(file) for name, file in files.items()}
    for name, fingerprint in found.items():
        if known.get(name, fingerprint) != fingerprint:
            raise ConfigError(
                f"{files[name]} is not what {out} has numbers of as {name}; choose another --out, or remove {out} to "
                "measure anew"
            )
    if not found.items() <= known.items():
        with whole_file(path) as partial:
            partial.write_text(json.dumps(known | found, indent=1), encoding="utf-8")


def list_files(pictures: Sequence[Picture], others: Mapping[str, Path]) -> dict[str, Path]:
    """Every file that is measured, by what it is of which picture; see `claim_pictures`."""
    files = {f"{picture.key} {side}": file for picture in pictures for side, file in _sides(picture)}
    results = {
        (method, picture): _find_result(folder, picture) for method, folder in others.items() for picture in pictures
    }
    return files | {f"{picture.key} {method}": file for (method, picture), file in results.items() if file.is_file()}


def check_results(name: str, folder: Path, datasets: Sequence[str]) -> None:
    """Refuse another method's results where no test set finds its own.

    Raises:
        ConfigError: the folder has no folder of a test set's name.
    """
    if not any((folder / dataset).is_dir() for dataset in datasets):
        raise ConfigError(
            f"{folder}, the pictures of {name}, has no folder named as a test set ({', '.join(datasets)}); put them "
            f"into {folder / datasets[0]}"
        )


def find_left_out(folders: Sequence[Path], pictures: Sequence[Picture] | None) -> list[Path]:
    """Pictures of a test set's folders that are not measured.

    Args:
        folders: of the set.
        pictures: of the set; None is all of the kinds that are measured.
    """
    used = {file for picture in pictures or () for _, file in _sides(picture)}
    files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file() and file not in used]
    is_kind = {file: file.suffix.lower() in IMAGE_SUFFIXES for file in files}
    return [
        file for file in files if (is_kind[file] and pictures is not None) or (not is_kind[file] and is_picture(file))
    ]


def _sides(picture: Picture) -> list[tuple[str, Path]]:
    return [("lq", picture.lq), *([] if picture.gt is None else [("gt", picture.gt)])]


def _find_result(folder: Path, picture: Picture) -> Path:
    return folder / picture.dataset / f"{picture.lq.stem}.png"
