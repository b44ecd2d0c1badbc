"""What Train MMLE Regressor does, from what was typed to the file that the loader takes."""

import importlib.util
import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..adadiffsr_core.data.origin import claim_cache, fingerprint_files
from ..adadiffsr_core.data.photo_files import keep_sound
from ..adadiffsr_core.errors import CheckpointError, ConfigError, MissingExtraError
from ..adadiffsr_core.files import whole_file
from ..adadiffsr_core.metrics.base import Metric
from ..adadiffsr_core.metrics.registry import create_metric
from ..adadiffsr_core.models.checkpoint import load_checkpoint
from ..adadiffsr_core.models.networks import load_mmle
from ..adadiffsr_core.models.processor import Processor
from ..adadiffsr_core.text import quoted
from ..adadiffsr_core.training.recipe import MmleRecipe, read_recipe
from ..adadiffsr_core.training.tasks.mmle import choose_metrics
from ..adadiffsr_core.training.walks.targets import Reference
from ..adadiffsr_core.training.walks.teaching import (
    Teacher,
    check_disk,
    check_recipe,
    describe_difficulty,
    describe_figures,
    learn_difficulty,
    make_task,
    rate_walks,
    split_few,
)
from ..adadiffsr_core.training.walks.walked_model import claim_model, probe_model
from .host.networks import Network, entrust
from .host.training import (
    Watch,
    find_photographs,
    gradients,
    run_folder,
    stop_if_cancelled,
    train_watched,
    training_device,
    weights_file,
    weights_folder,
)
from .host.walks import HostModel

_MODULES = {"cv2": "opencv-python-headless", "scipy": "scipy", "matplotlib": "matplotlib"}
_SAFETENSORS = (0, 8)
_HOLDOUT = 0.05
_HELD_OUT_WALKS = 0.142  # as many for one to train on: the shipped recipe's


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """What a user chooses.

    Attributes:
        image_folder: of photographs, in the host's input folder or one that its owner listed.
        file_name: of the regressor in `models/adadiffsr`.
        steps, learning_rate, seed: of the training.
        walks: to train on.
        reference: what full-reference metrics compare with.
        metrics: names and commas.
        tile_size: image px; 0 is what the model was trained on.
    """

    image_folder: str
    file_name: str
    steps: int
    walks: int
    learning_rate: float
    reference: Reference
    metrics: str
    seed: int
    tile_size: int


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        mmle: the regressor in the host's care.
        path: of its file.
        report: what it learnt, in lines.
        chart: predicted over true values, uint8 `[H,W,3]`.
    """

    mmle: Network
    path: Path
    report: str
    chart: np.ndarray


def train_regressor(model: HostModel, settings: TrainingSettings) -> Trained:
    """Walk, measure, learn and save; a run that was cancelled goes on.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    check_packages()
    file = weights_file(settings.file_name)
    folder = run_folder(file)
    if file.exists() and not folder.exists():
        raise ConfigError(f"{file.name} is already in {file.parent}; choose another file_name, or remove it")
    found = find_photographs(settings.image_folder)
    photos = keep_sound(found, logging.getLogger(__name__).warning, folder / "photographs.json", stop_if_cancelled)
    holdout, split = split_few(photos, _HOLDOUT)
    recipe = build_recipe(model, settings, holdout)
    check_recipe(recipe, model)
    check_disk(recipe, model, folder)
    metrics = {name: load_metric(name) for name in recipe.net.metrics}
    origin = {"photographs": fingerprint_files(photos), "settings": _lasting(recipe, model)}
    with gradients():
        probe = probe_model(model, recipe.walk.sampling, recipe.data.size_px)
        try:
            claim_cache(folder, origin)
            claim_model(folder, probe)
        except ConfigError as error:
            reason = str(error).partition(";")[0]
            raise ConfigError(f"{reason}; choose another file_name, or remove that folder to begin anew") from error
        ends = recipe.ends + recipe.held_out_ends
        watch = Watch(2 * (recipe.walks + recipe.held_out) + settings.steps + ends)
        name = type(model.model.model).__name__
        # Made by hand: `open` would change the host's own settings of the graphics card.
        processor = Processor(training_device())
        walks = rate_walks(recipe, Teacher(model, metrics), split, folder, origin, watch.advance)
        task = make_task(recipe, walks, name, processor)
        run = train_watched(task, recipe.loop, folder, watch)
        report = describe_figures(run.check(), recipe.net.metrics)
        chart = task.sheet(run.average)
        taught = learn_difficulty(recipe, model, split, folder, watch.advance)
    with whole_file(file) as partial:
        shutil.copyfile(taught, partial)
    about = (
        f"{run.step} steps on {recipe.walks} walks of {len(split.train)} photographs, measured on {recipe.held_out} "
        f"of {len(split.held_out)} others."
    )
    if left_out := len(found) - len(photos):
        about += f" {left_out} more files could not be read; the log names them."
    lines = [report, describe_difficulty(load_checkpoint(file, "mmle").facts), about]
    return Trained(entrust(load_mmle(file)), file, "\n".join(lines), chart)


def check_packages() -> None:
    """Refuse to begin without what training needs beyond the host's own requirements.

    Raises:
        MissingExtraError: with what to install.
    """
    missing = [package for module, package in _MODULES.items() if importlib.util.find_spec(module) is None]
    if tuple(int(part) for part in version("safetensors").split(".")[:2]) < _SAFETENSORS:
        missing.append(f"'safetensors>={_SAFETENSORS[0]}.{_SAFETENSORS[1]}'")
    if missing:
        raise MissingExtraError(
            f"training needs packages that are not installed; run `pip install {' '.join(missing)}` with ComfyUI's own "
            "Python and start ComfyUI again"
        )


def load_metric(name: str) -> Metric:
    """A metric, its weights from `models/adadiffsr` where they are there.

    Raises:
        CheckpointError: its weights are not to be had; with what to do.
    """
    try:
        return create_metric(name, training_device(), weights_folder())
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}, or into {weights_folder()}; or leave {name} out of metrics (piqe needs no weights)"
        ) from error


def build_recipe(model: HostModel, settings: TrainingSettings, holdout: float) -> MmleRecipe:
    """The shipped recipe, made for this model and these settings.

    Raises:
        ConfigError: a setting is impossible or a metric unknown.
    """
    steps = settings.steps
    loop = {
        "steps": steps,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "warmup_steps": min(200, steps // 10),
        "bfloat16": False,  # slow on the older cards and most processors that users have
        "decay_share": 0.5,
    }
    net = {**choose_metrics(_parse_names(settings.metrics)), "latent_channels": model.channels}
    if not net["fr_metrics"] or not net["nr_metrics"]:
        raise ConfigError(
            f"metrics {quoted(settings.metrics, 80)} must name at least one with a reference, such as psnr, and one "
            "without, such as piqe"
        )
    values = read_recipe(
        "mmle",
        None,
        loop,
        {},
        net=net,
        data={"size_px": model.choose_tile(settings.tile_size)},
        reference=settings.reference,
        walks=settings.walks,
        held_out=max(2, round(settings.walks * _HELD_OUT_WALKS)),
        ends=min(MmleRecipe().ends, max(2, settings.walks)),
        holdout=holdout,
    )
    return MmleRecipe.from_dict(values)


def _parse_names(text: str) -> Iterable[str]:
    return dict.fromkeys(name for part in text.split(",") if (name := part.strip()))


def _lasting(recipe: MmleRecipe, model: HostModel) -> dict[str, Any]:
    """Settings that must not change while a run goes on."""
    values = recipe.to_dict()
    steady = {name: value for name, value in values.items() if name not in ("loop", "ends")}
    steady["data"] = {name: value for name, value in values["data"].items() if name != "cache_mb"}
    return {**steady, "seed": recipe.loop.seed, "cfg": model.cfg, "denoise": model.denoise}
