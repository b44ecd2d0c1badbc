"""Where weights files are: `models/adadiffsr`, the user's own paths for it, and the host's checkpoints."""

from pathlib import Path

import folder_paths

from ...adadiffsr_core.errors import CheckpointError
from ...adadiffsr_core.text import shown

FOLDER = "adadiffsr"
PHOTO_FOLDER = "adadiffsr_photos"
_photo_folders: list[str] = []


def add_model_folder() -> None:
    """Add `models/adadiffsr` to what the user's extra_model_paths.yaml names; only safetensors are listed."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def take_photo_folders() -> None:
    """Take over what the owner's extra_model_paths.yaml lists as `adadiffsr_photos`.

    It does not stay among the host's model folders, whose files the host lists and shows to everyone.
    """
    paths, _ = folder_paths.folder_names_and_paths.pop(PHOTO_FOLDER, ([], set()))
    _photo_folders.extend(path for path in paths if path not in _photo_folders)


def photo_folders() -> list[str]:
    """Folders of photographs that the owner lets be read, besides the host's input folder."""
    return list(_photo_folders)


def list_files(folder: str = FOLDER) -> list[str]:
    """Names of the files in a model folder."""
    return list(folder_paths.get_filename_list(folder)) if folder in folder_paths.folder_names_and_paths else []


def find_file(name: str, *folders: str) -> Path:
    """The file of this name in the first of `folders` that has it.

    Raises:
        CheckpointError: none has.
    """
    for folder in folders:
        path = folder_paths.get_full_path(folder, name) if folder in folder_paths.folder_names_and_paths else None
        if path:
            return Path(path)
    raise CheckpointError(f"there is no file {shown(name, 80)} in models/{' or models/'.join(folders)}; put it there")
