"""Checkpoints: the embedded model, files of ours, and ordinary Stable Diffusion ones."""

from pathlib import Path
from typing import Any

import comfy.sd
import folder_paths
import torch

from ...adadiffsr_core.errors import CheckpointError
from ...adadiffsr_core.models.checkpoint import FORMAT
from ...adadiffsr_core.models.model import embedded_weights
from ...adadiffsr_core.models.networks import MMLE_PREFIX, PFJ_PREFIX, has_own_autoencoder, open_networks
from ...adadiffsr_core.models.tensor_file import TensorFile
from ...adadiffsr_core.nets.mmle import Mmle
from ...adadiffsr_core.nets.pfj import Pfj
from ...adadiffsr_core.text import shown
from .folders import FOLDER, find_file, list_files
from .models import Loaded, build_model, build_vae, null_conditioning
from .networks import Companions, entrust

EMBEDDED = "embedded model"
_SAFE = (".safetensors", ".sft")
_OWN_TEXTS = {"kind", "config"}
_OWN_PREFIXES = (MMLE_PREFIX, PFJ_PREFIX)


def list_checkpoints() -> list[str]:
    """What can be chosen: the embedded model, then files, ours first."""
    return [EMBEDDED, *dict.fromkeys([*list_files(FOLDER), *list_files("checkpoints")])]


def find_checkpoint(name: str) -> Path:
    """The file that a choice stands for.

    Raises:
        CheckpointError: there is none.
    """
    return embedded_weights() if name == EMBEDDED else find_file(name, FOLDER, "checkpoints")


def list_networks() -> list[str]:
    """What a small network can be loaded from: the embedded model, then our files."""
    return [EMBEDDED, *list_files(FOLDER)]


def find_network(name: str) -> Path:
    """The file that such a choice stands for.

    Raises:
        CheckpointError: there is none.
    """
    return embedded_weights() if name == EMBEDDED else find_file(name, FOLDER)


def is_ours(path: Path) -> bool:
    """Whether a file is of this project: says so, or holds what nothing else does.

    The host would open one of ours whose description is damaged as something else, and leave what does not fit as
    memory happens to be. So such a file is ours, to be refused by our own checks.

    Raises:
        CheckpointError: the file is missing, no ordinary file, or damaged.
    """
    if path.is_file() and path.suffix not in _SAFE:
        return False
    file = TensorFile(path)
    is_named = file.metadata.get("format", "").startswith(FORMAT.partition("/")[0]) or set(file.metadata) >= _OWN_TEXTS
    return is_named or any(key.startswith(_OWN_PREFIXES) for key in file) or has_own_autoencoder(file)


def open_checkpoint(path: Path) -> Loaded:
    """Load a checkpoint of any kind.

    Raises:
        CheckpointError: the file is damaged, or no diffusion model that the host knows.
    """
    if is_ours(path):
        networks = open_networks(path, "ldm", "bundle")
        model, vae = build_model(networks), build_vae(networks)
        # From these the host makes copies for other devices.
        model.cached_patcher_init = (_reload_model, (path,))
        vae.patcher.cached_patcher_init = (_reload_vae, (path,))
        mmle = entrust(networks.build(Mmle, "cpu", torch.float32)) if networks.has(Mmle) else None
        pfj = entrust(networks.build(Pfj, "cpu", torch.float32)) if networks.has(Pfj) else None
        Companions(mmle, pfj, networks.scales).join(model)
        return Loaded(model, vae, null_conditioning(model), mmle=mmle, pfj=pfj)
    try:
        embeddings = list(folder_paths.get_folder_paths("embeddings"))
        model, clip, vae, *_ = comfy.sd.load_checkpoint_guess_config(
            str(path), output_vae=True, output_clip=True, embedding_directory=embeddings
        )
    except Exception as error:  # the host's readers raise what they like
        reason = shown((str(error).splitlines() or [type(error).__name__])[0])
        raise CheckpointError(f"{path.name} is not a checkpoint that ComfyUI can open: {reason}") from error
    if model is None or getattr(vae, "first_stage_model", None) is None:
        raise CheckpointError(
            f"{path.name} holds no complete checkpoint (diffusion model and VAE); load its parts apart"
        )
    nothing = null_conditioning(model) if clip is None else clip.encode_from_tokens_scheduled(clip.tokenize(""))
    return Loaded(model, vae, nothing, clip)


def _reload_model(path: Path, **_: Any) -> Any:
    """A MODEL of its own; what the host says besides concerns its own loading of weights on demand."""
    return build_model(open_networks(path, "ldm", "bundle"))


def _reload_vae(path: Path, **_: Any) -> Any:
    return build_vae(open_networks(path, "ldm", "bundle")).patcher
