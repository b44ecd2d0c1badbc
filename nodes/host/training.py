"""Training inside the host: progress bar and cancel button, gradients, devices, and where files are."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ...adadiffsr_core.data.dataset import SOURCES
from ...adadiffsr_core.data.photo_files import find_images
from ...adadiffsr_core.errors import ConfigError, ImageError
from ...adadiffsr_core.files import check_file_name, follow_links
from ...adadiffsr_core.text import quoted
from ...adadiffsr_core.training.loop.config import LoopConfig
from ...adadiffsr_core.training.loop.loop import Run, Task
from .folders import FOLDER, PHOTO_FOLDER, photo_folders

# To be free on a graphics card while a regressor learns; a step at 64x64 latents takes half of it.
_MEMORY = 2 * 2**30
_OWNERS = f"its owner listed as {PHOTO_FOLDER} in extra_model_paths.yaml"
_FORBIDDEN = set('/\\:*?"<>|')


def find_photographs(name: str) -> list[Path]:
    """The photographs of a folder that lies where anyone who may use the host may read.

    What lies elsewhere is as if it were not there, links that lead there included: the sentence is the same.

    Raises:
        ImageError: no folder is named, or there is no photograph in such a folder.

    Source: decision D62.
    """
    name = name.strip().strip("\"'")
    if not name:
        raise ImageError(
            f"name a folder of photographs in image_folder: one in ComfyUI's input folder, or one that {_OWNERS}"
        )
    folder = Path(folder_paths.get_input_directory()) / name
    photos = []
    if _may_be_read(folder):
        with suppress(ImageError):
            photos = find_images([folder])
    photos = [path for path in photos if _may_be_read(path) and _may_be_read(path.with_name(SOURCES))]
    if not photos:
        raise ImageError(
            f"image_folder {quoted(name, 80)} is no folder of photographs in ComfyUI's input folder, nor in one that "
            f"{_OWNERS}"
        )
    return photos


def _may_be_read(path: Path) -> bool:
    """Whether a path lies in the host's input folder or one that its owner listed, as written and with links followed.

    As written first: what lies elsewhere is not even looked at, which on Windows might be another machine.
    """
    given = [Path(root) for root in (folder_paths.get_input_directory(), *photo_folders())]
    try:
        roots = {follow_links(root) for root in given}
        return _lies_in(Path(os.path.abspath(path)), {*given, *roots}) and _lies_in(follow_links(path), roots)  # noqa: PTH100
    except (OSError, ValueError):  # a name that no file can have
        return False


def _lies_in(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def weights_file(name: str) -> Path:
    """Where a trained network goes, so that our loaders list it.

    Raises:
        ConfigError: the name is none for a file.
    """
    stem = name.strip().removesuffix(".safetensors")
    if not stem or stem.startswith(".") or _FORBIDDEN & set(stem) or len(stem) > 100:
        raise ConfigError(
            f"file_name {quoted(name, 80)} must be a plain name such as my_model, of at most 100 characters and "
            "without folders"
        )
    check_file_name(stem)
    return weights_folder() / f"{stem}.safetensors"


def weights_folder() -> Path:
    """The first of the user's folders for our files."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0])


def run_folder(file: Path) -> Path:
    """Where the training of a file keeps its state and its pixels.

    Not among the models, whose lists would show it, nor in the output folder, which the host serves to everyone; of its
    user folder it serves none whose name begins with two underscores.
    """
    return Path(folder_paths.get_user_directory()) / "__adadiffsr" / "training" / file.stem


def training_device() -> torch.device:
    """Where small networks learn and metrics are measured; other kinds of device lack parts of either."""
    device = comfy.model_management.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


@contextmanager
def gradients() -> Iterator[None]:
    """Undo the host's inference mode: tensors that are made in it cannot be learnt from."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def stop_if_cancelled() -> None:
    """Ask the host whether to go on.

    Raises:
        InterruptProcessingException: the user cancelled.
    """
    comfy.model_management.throw_exception_if_processing_interrupted()


class Watch:
    """The host's progress bar and cancel button.

    Args:
        total: parts of the whole work.
    """

    def __init__(self, total: int) -> None:
        self.bar = comfy.utils.ProgressBar(total)

    def advance(self, more: int) -> None:
        """Show that so many more parts are done.

        Raises:
            InterruptProcessingException: the user cancelled.
        """
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.bar.update(more)


class _WatchedTask:
    """A task that the host is asked about before every step."""

    def __init__(self, task: Task, on_step: Callable[[int], None]) -> None:
        self.task, self.on_step = task, on_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def turns(self, step: int) -> Any:
        """See `Task`."""
        self.on_step(1)
        return self.task.turns(step)


def train_watched(task: Task, config: LoopConfig, folder: Path, watch: Watch) -> Run:
    """Train in a folder, going on where a run before stopped; a cancelled one is saved first.

    Raises:
        InterruptProcessingException: the user cancelled.
    """
    device = training_device()
    if device.type == "cuda":
        comfy.model_management.free_memory(_MEMORY, device)
    run = Run(_WatchedTask(task, watch.advance), config, folder)
    watch.advance(run.step)
    try:
        run.train()
    except comfy.model_management.InterruptProcessingException:
        run.save()  # whole, since it is raised between two steps
        raise
    return run
