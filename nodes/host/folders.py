"""Where weights files are: `models/adadiffsr`, the user's own paths for it, and the host's checkpoints."""

from pathlib import Path

import folder_paths

from ...adadiffsr_core.errors import CheckpointError

FOLDER = "adadiffsr"


def add_model_folder() -> None:
    """Add `models/adadiffsr` to what the user's extra_model_paths.yaml names; only safetensors are listed."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


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
    raise CheckpointError(f"there is no file {name} in models/{' or models/'.join(folders)}; put it there")


def embedding_folders() -> list[str]:
    """Where textual inversions are."""
    return list(folder_paths.get_folder_paths("embeddings"))
