"""What a cache was made from, kept beside it: one made from anything else is refused rather than trained on."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ConfigError
from ..files import read_small_file, whole_file
from ..plain_json import parse_json
from ..text import shown

_FILE = "origin.json"
_LONGEST = 4_000_000  # bytes of a note


def fingerprint_files(paths: Sequence[Path]) -> str:
    """Names and sizes in their order, as a hash; where the files are does not matter."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(f"{path.name}\t{path.stat().st_size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def fingerprint_weights(module: nn.Module) -> str:
    """A hash of a network's weights, whatever file they were in."""
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(module.state_dict().items()):
        digest.update(f"{key}\t{tuple(value.shape)}\n".encode())
        digest.update(value.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_note(path: Path) -> Any:
    """The plain values in a small file that lies with a cache.

    Raises:
        ConfigError: it cannot be read, or is damaged.
    """
    try:
        return parse_json(read_small_file(path, _LONGEST))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged: {shown(str(error), 80)}; remove {path.parent} to make it anew, or choose another "
            "folder"
        ) from error


def claim_cache(folder: Path, origin: Mapping[str, Any]) -> None:
    """Note that `folder` is made from `origin`, or see that it was.

    Args:
        folder: created if need be.
        origin: plain values by a name that fits "was made from other ...".

    Raises:
        ConfigError: it was made from something else, or what it was made from cannot be read.
    """
    path, wanted = folder / _FILE, json.loads(json.dumps(origin))
    if not path.exists():
        with whole_file(path) as partial:
            partial.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        return
    found = read_note(path)
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is damaged; remove {folder} to make it anew, or choose another folder")
    if changed := [name for name in wanted if found.get(name) != wanted[name]]:
        raise ConfigError(
            f"{folder} was made with other {' and '.join(changed)}; choose another folder, or remove {folder} to "
            "make it anew"
        )
