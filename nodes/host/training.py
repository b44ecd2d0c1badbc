"""Training inside the host: progress bar and cancel button, gradients, devices, and where files are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch

from ...adadiffsr_core.errors import ConfigError, ImageError
from ...adadiffsr_core.training.loop import LoopConfig, Run, Task
from .folders import FOLDER

# To be free on a graphics card while a regressor learns; a step at 64x64 latents takes half of it.
_MEMORY = 2 * 2**30
_FORBIDDEN = set('/\\:*?"<>|')


def input_folder(name: str) -> Path:
    """A folder that the user named: within the host's input folder, or by its whole path.

    Raises:
        ImageError: none is named.
    """
    name = name.strip().strip("\"'")
    if not name:
        raise ImageError("name a folder of photographs in image_folder: one in ComfyUI's input folder, or a whole path")
    return Path(folder_paths.get_input_directory()) / Path(name).expanduser()


def weights_file(name: str) -> Path:
    """Where a trained network goes, so that our loaders list it.

    Raises:
        ConfigError: the name is none for a file.
    """
    stem = name.strip().removesuffix(".safetensors")
    if not stem or stem.startswith(".") or _FORBIDDEN & set(stem) or len(stem) > 100:
        raise ConfigError(f"file_name {name!r} must be a plain name such as my_model, without folders")
    return weights_folder() / f"{stem}.safetensors"


def weights_folder() -> Path:
    """The first of the user's folders for our files."""
    return Path(folder_paths.get_folder_paths(FOLDER)[0])


def run_folder(file: Path) -> Path:
    """Where the training of a file keeps its state; not among the models, whose lists would show it."""
    return Path(folder_paths.get_output_directory()) / "AdaDiffSR" / "training" / file.stem


def training_device() -> torch.device:
    """Where small networks learn and metrics are measured; other kinds of device lack parts of either."""
    device = comfy.model_management.get_torch_device()
    return device if device.type == "cuda" else torch.device("cpu")


@contextmanager
def gradients() -> Iterator[None]:
    """Undo the host's inference mode: tensors that are made in it cannot be learnt from."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


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
