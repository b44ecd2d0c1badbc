"""Checkpoints: the embedded model, files of ours, and ordinary Stable Diffusion ones."""

from pathlib import Path
from typing import Any

import comfy.sd
from safetensors import SafetensorError, safe_open

from ...adadiffsr_core.checkpoint import FORMAT, load_checkpoint
from ...adadiffsr_core.errors import CheckpointError
from ...adadiffsr_core.pipeline import embedded_weights
from .folders import FOLDER, embedding_folders, find_file, list_files
from .models import Loaded, build_model, build_vae, null_conditioning

EMBEDDED = "embedded model"


def list_checkpoints() -> list[str]:
    """What can be chosen: the embedded model, then files, ours first."""
    return [EMBEDDED, *dict.fromkeys([*list_files(FOLDER), *list_files("checkpoints")])]


def find_checkpoint(name: str) -> Path:
    """The file that a choice stands for.

    Raises:
        CheckpointError: there is none.
    """
    return embedded_weights() if name == EMBEDDED else find_file(name, FOLDER, "checkpoints")


def is_ours(path: Path) -> bool:
    """Whether a file says that it is of our format."""
    try:
        with safe_open(path, "pt") as file:
            return bool((file.metadata() or {}).get("format") == FORMAT)
    except (OSError, SafetensorError):
        return False


def open_checkpoint(path: Path) -> Loaded:
    """Load a checkpoint of any kind.

    Raises:
        CheckpointError: the file is damaged, or no diffusion model that the host knows.
    """
    if is_ours(path):
        checkpoint = load_checkpoint(path, "ldm", "bundle")
        model = build_model(checkpoint)
        return Loaded(model, build_vae(checkpoint), null_conditioning(model))
    try:
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(
            str(path), output_vae=True, output_clip=True, embedding_directory=embedding_folders()
        )
    except Exception as error:  # the host's readers raise what they like
        raise CheckpointError(f"{path.name} is not a checkpoint that ComfyUI can open: {_first_line(error)}") from error
    if model is None or getattr(vae, "first_stage_model", None) is None:
        raise CheckpointError(
            f"{path.name} holds no complete checkpoint (diffusion model and VAE); load its parts apart"
        )
    return Loaded(model, vae, null_conditioning(model) if clip is None else _encode_nothing(clip), clip)


def _encode_nothing(clip: Any) -> list[Any]:
    """The conditioning of an empty prompt."""
    conditioning: list[Any] = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    return conditioning


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
