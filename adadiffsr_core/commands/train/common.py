"""What the commands that train have in common: options, photographs, recipe, run."""

import argparse
import importlib.util
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tqdm.contrib.logging import logging_redirect_tqdm

from ...data.dataset import PairConfig, PhotoSplit, split_photos
from ...data.origin import claim_cache
from ...data.photo_files import find_images, keep_sound
from ...errors import ConfigError, MissingExtraError
from ...files import whole_file
from ...metrics.st_lpips import StLpips
from ...models.processor import Processor
from ...training.loop.config import LoopConfig
from ...training.loop.loop import Run, Task
from ...training.recipe import Recipe, read_recipe
from ...training.tasks.picture_losses import PictureLossConfig
from ..options import choose_device, parse_folder, parse_path, set_threads
from ..terminal import say

R = TypeVar("R", bound=Recipe)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options that every network's training takes."""
    parser.add_argument("data", nargs="+", type=parse_path, metavar="DATA", help="folders of photographs")
    parser.add_argument(
        "--run", type=parse_folder, required=True, dest="folder", metavar="FOLDER", help="where everything goes"
    )
    parser.add_argument(
        "--config", type=parse_path, metavar="JSON", help="what differs from the shipped model's recipe"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps in all, earlier runs included")
    parser.add_argument(
        "--minutes", type=float, metavar="X", help="training time in all, likewise; steps end it no more"
    )
    parser.add_argument("--learning-rate", type=float, metavar="X", help="peak of the schedule")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of everything random")
    parser.add_argument("--batch-size", type=int, metavar="N", help="examples in a step")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (cuda if there is one, else cpu)")
    parser.add_argument("--compile", action="store_true", help="let torch compile networks: slow to start, then faster")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads")


def choose_recipe(
    recipe: type[R],
    kind: str,
    args: argparse.Namespace,
    *,
    task_settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> R:
    """The shipped recipe of this kind, changed by `--config`, by the options, by `task_settings`, and by `more`.

    Raises:
        ConfigError: a setting is unknown, of the wrong kind, or out of its range.
    """
    loop = {name: getattr(args, name) for name in ("steps", "minutes", "learning_rate", "seed", "device")}
    task = {**(task_settings or {}), "batch_size": args.batch_size}
    given = [{name: value for name, value in section.items() if value is not None} for section in (loop, task)]
    if args.minutes is not None:
        given[0]["steps"] = args.steps  # the recipe's are for another machine
    if args.compile:
        given[0]["compile"] = True
    return recipe.from_dict(read_recipe(kind, args.config, *given, **more))


def fit_networks(recipe: R, kind: str, own: Mapping[str, Any]) -> R:
    """A recipe with what a model decides about its networks.

    Args:
        recipe: of `choose_recipe`.
        kind: the same.
        own: settings of its networks, the model's.

    Raises:
        ConfigError: the recipe was given another.
    """
    given = recipe.to_dict()["net"]
    usual = type(recipe).from_dict(read_recipe(kind, None, {}, {})).to_dict()["net"]
    fitted = type(recipe).from_dict({**recipe.to_dict(), "net": {**given, **own}})
    for name, value in fitted.to_dict()["net"].items():
        if given[name] not in (value, usual[name]):
            raise ConfigError(f"net.{name} is {given[name]}, and the model's is {value}; leave it out")
    return fitted


def find_photographs(args: argparse.Namespace, holdout: float) -> tuple[list[Path], PhotoSplit]:
    """All photographs that can be read, and which of them to measure on; both parts must hold some.

    Raises:
        ConfigError: one part holds none.
        ImageError: a folder is missing, or there is no photograph that can be read.
    """
    found = find_images(args.data)
    photos = keep_sound(found, lambda fault: say(f"adadiffsr: {fault}", sys.stderr), args.folder / "photographs.json")
    split = split_photos(photos, holdout)
    if not split.train or not split.held_out:
        raise ConfigError(
            f"of {len(photos)} photographs {len(split.held_out)} are held out, and both to train and to measure there "
            "must be some; add photographs or change holdout"
        )
    return photos, split


def prepare_run(args: argparse.Namespace, recipe: Recipe, **origin: object) -> None:
    """Refuse what would fail hours later, and note the recipe in the run's folder.

    Args:
        args: of the command.
        recipe: of the run; with other networks its folder is refused.
        origin: what else must not change when the run goes on.

    Raises:
        MissingExtraError: training needs packages that are not installed.
        ConfigError: the folder is another run's.
    """
    if missing := [name for name in ("cv2", "scipy", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise MissingExtraError(f"training needs {', '.join(missing)}: pip install 'adadiffsr[train]'")
    task = getattr(recipe, "task", None)
    if isinstance(task, PictureLossConfig) and task.needs_st_lpips:
        StLpips()  # refuses where its packages are missing
    set_threads(args.threads)
    claim_cache(args.folder, {"networks": recipe.to_dict()["net"], **origin})
    with whole_file(args.folder / "recipe.json") as partial:
        partial.write_text(json.dumps(recipe.to_dict(), indent=1) + "\n", encoding="utf-8")


def open_processor(recipe: Recipe) -> Processor:
    """What the recipe says is to train.

    Raises:
        ConfigError: there is no such device, or it cannot be used.
    """
    return Processor.open(choose_device(recipe.loop.device), recipe.loop.bfloat16, compiles=recipe.loop.compile)


def drawing_settings(data: PairConfig) -> dict[str, Any]:
    """Those settings of the data that change the pairs; of younger ones only those that do, so that pairs which were
    kept before there were any are found again.
    """
    young = {"flat_share", "mild_blur"}
    values, usual = data.to_dict(), PairConfig().to_dict()
    same = {name for name in young if values[name] == usual[name]}
    return {name: value for name, value in values.items() if name not in {"cache_mb", *same}}


def train_task(task: Task, config: LoopConfig, folder: Path, weights: str = "weights.safetensors") -> int:
    """Train, log, and say where the weights are."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with logging_redirect_tqdm():
        run = Run(task, config, folder)
        run.train()
    say(f"{folder / weights}: {task.name} after {run.step} steps")
    return 0
