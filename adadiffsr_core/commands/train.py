"""`adadiffsr train`: the networks of the embedded model, from photographs; a stopped run goes on where it was."""

import argparse
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any, TypeVar, get_args

from tqdm.contrib.logging import logging_redirect_tqdm

from ..checkpoint import load_checkpoint
from ..errors import ConfigError, MissingExtraError
from ..files import whole_file
from ..metrics.registry import create_metric
from ..pipeline import Model, embedded_weights, load_model
from ..training.autoencoder import AutoencoderTask
from ..training.dataset import PairDataset, PhotoSplit, find_images, split_photos
from ..training.latent_pairs import LatentPairs, build_latent_pairs
from ..training.ldm import LdmTask, load_autoencoder
from ..training.loop import LoopConfig, Run, Task
from ..training.mmle import MmleTask, RatedWalks, choose_metrics
from ..training.origin import claim_cache, fingerprint_content, fingerprint_files
from ..training.recipe import AutoencoderRecipe, Kind, LdmRecipe, MmleRecipe, read_recipe
from ..training.taesd import Taesd
from ..training.targets import Reference, measure_targets
from ..training.teacher import TeacherCache, build_teacher_cache
from ..training.walks import build_walks
from .options import parse_names, set_threads
from .terminal import say

R = TypeVar("R", AutoencoderRecipe, LdmRecipe, MmleRecipe)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr`."""
    parser = subparsers.add_parser("train", help="train the networks of the embedded model", description=__doc__)
    networks = parser.add_subparsers(required=True, metavar="NETWORK")
    autoencoder = networks.add_parser("autoencoder", help="taught by TAESD", allow_abbrev=False)
    autoencoder.add_argument("--teacher", type=Path, required=True, metavar="FOLDER", help="TAESD's two weights files")
    autoencoder.add_argument("--init", type=Path, metavar="FILE", help="an autoencoder's weights to begin a run with")
    autoencoder.set_defaults(run=train_autoencoder)
    ldm = networks.add_parser("ldm", help="the diffusion model", allow_abbrev=False)
    ldm.add_argument("--autoencoder", type=Path, required=True, metavar="FILE", help="weights of the autoencoder")
    ldm.add_argument("--workers", type=int, default=0, metavar="N", help="processes that make pairs (0)")
    ldm.set_defaults(run=train_ldm)
    mmle = networks.add_parser("mmle", help="the regressor of information gain", allow_abbrev=False)
    mmle.add_argument("--model", type=Path, metavar="FILE", help="weights to walk; the embedded model if not given")
    mmle.add_argument("--cache", type=Path, metavar="FOLDER", help="walks and their metrics (in the run's folder)")
    mmle.add_argument("--reference", choices=get_args(Reference), help="compare with the low-quality picture or truth")
    mmle.add_argument("--metrics", type=parse_names, metavar="A,B,..", help="to learn, with and without reference")
    mmle.add_argument("--iqa-weights", type=Path, metavar="FOLDER", help="local weights of BRISQUE and NIQE")
    mmle.set_defaults(run=train_mmle)
    for network in (autoencoder, ldm, mmle):
        _add_common(network)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="folders of photographs")
    parser.add_argument(
        "--run", type=Path, required=True, dest="folder", metavar="FOLDER", help="where everything goes"
    )
    parser.add_argument("--config", type=Path, metavar="JSON", help="what differs from the shipped model's recipe")
    parser.add_argument("--steps", type=int, metavar="N", help="optimiser steps in all, earlier runs included")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="peak of the schedule")
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random")
    parser.add_argument("--batch-size", type=int, metavar="N", help="examples in a step")
    parser.add_argument("--threads", type=int, metavar="N", help="of the processor")


def train_autoencoder(args: argparse.Namespace) -> int:
    """Encode the photographs by the teacher, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    recipe = _recipe(AutoencoderRecipe, "autoencoder", args)
    start = None if args.init is None else load_checkpoint(args.init, "autoencoder", "ldm", "bundle")
    photos, split = _split(args.data, recipe.holdout)
    _prepare(args, recipe)
    held_out = set(split.held_out)
    cache = args.folder / "teacher"
    build_teacher_cache(cache, photos, Taesd(args.teacher), recipe.loop.seed)
    data = TeacherCache(cache, [photo in held_out for photo in photos])
    task = AutoencoderTask(recipe.net, recipe.task, data, recipe.loop.seed, recipe.loop.bfloat16)
    if start is not None:
        start.load_into(task.networks["autoencoder"], "first_stage_model.")  # a run that goes on loads its own over it
    return _train(task, recipe.loop, args.folder)


def train_ldm(args: argparse.Namespace) -> int:
    """Degrade and encode pairs, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    recipe = _recipe(LdmRecipe, "ldm", args)
    autoencoder = load_autoencoder(args.autoencoder)
    _check_sizes(recipe, autoencoder.config.factor, autoencoder.config.z_channels)
    photos, split = _split(args.data, recipe.holdout)
    _prepare(args, recipe)
    origin = {
        "photographs": fingerprint_files(photos),
        "autoencoder": fingerprint_content(args.autoencoder),
        "settings": {"data": _drawing(recipe), "holdout": recipe.holdout, "seed": recipe.loop.seed},
    }

    def build(name: str, paths: list[Path], seed: int, count: int) -> LatentPairs:
        claim_cache(args.folder / name, origin)
        dataset = PairDataset(paths, recipe.data, seed, count)
        return build_latent_pairs(args.folder / name, dataset, autoencoder, args.workers)

    held_out = build("held_out", split.held_out, recipe.loop.seed + 1, recipe.held_out)
    pairs = build("pairs", split.train, recipe.loop.seed, recipe.pairs)
    task = LdmTask(recipe.net, recipe.task, autoencoder, pairs, held_out, recipe.loop.seed, recipe.loop.bfloat16)
    return _train(task, recipe.loop, args.folder)


def train_mmle(args: argparse.Namespace) -> int:
    """Walk degraded tiles with the frozen diffusion model, measure, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    given = {"reference": args.reference, "net": args.metrics and choose_metrics(args.metrics)}
    recipe = _recipe(MmleRecipe, "mmle", args, **{name: value for name, value in given.items() if value})
    weights = args.model or embedded_weights()
    model = load_model(weights)
    _check_tiles(recipe, model)
    photos, split = _split(args.data, recipe.holdout)
    _prepare(args, recipe)
    metrics = {name: create_metric(name, weights_folder=args.iqa_weights) for name in recipe.net.metrics}
    origin = {
        "photographs": fingerprint_files(photos),
        "model": fingerprint_content(weights),
        "settings": {
            "data": _drawing(recipe),
            "walk": recipe.walk.to_dict(),
            "holdout": recipe.holdout,
            "seed": recipe.loop.seed,
        },
    }

    def rate(name: str, paths: list[Path], seed: int, count: int) -> RatedWalks:
        folder = (args.cache or args.folder) / name
        claim_cache(folder, origin)
        walks = build_walks(folder, PairDataset(paths, recipe.data, seed, count), model, recipe.walk, seed)
        return RatedWalks(walks, measure_targets(walks, metrics, recipe.reference, model.decode))

    held_out = rate("held_out", split.held_out, recipe.loop.seed + 1, recipe.held_out)
    walks = rate("walks", split.train, recipe.loop.seed, recipe.walks)
    facts = {"model": weights.name, "reference": recipe.reference, "walks": recipe.walks, **recipe.walk.to_dict()}
    loop = recipe.loop
    task = MmleTask(recipe.net, recipe.task, walks, held_out, recipe.walk.sampling, loop.seed, loop.bfloat16, facts)
    return _train(task, loop, args.folder)


def _check_tiles(recipe: MmleRecipe, model: Model) -> None:
    side = model.autoencoder.config.factor * model.unet.config.multiple
    if recipe.data.size_px % side:
        raise ConfigError(f"size_px {recipe.data.size_px} is not a multiple of {side}, as this model needs")
    if recipe.net.latent_channels != model.unet.config.out_channels:
        raise ConfigError(f"net must have {model.unet.config.out_channels} latent_channels for this model")


def _drawing(recipe: LdmRecipe | MmleRecipe) -> dict[str, Any]:
    """Those settings of the data that change the pairs."""
    return {name: value for name, value in recipe.data.to_dict().items() if name != "cache_mb"}


def _check_sizes(recipe: LdmRecipe, factor: int, channels: int) -> None:
    side = factor * recipe.net.multiple
    if recipe.data.size_px % side:
        raise ConfigError(f"size_px {recipe.data.size_px} is not a multiple of {side}, as these networks need")
    if (recipe.net.in_channels, recipe.net.out_channels) != (2 * channels, channels):
        raise ConfigError(f"net must have {2 * channels} in_channels and {channels} out_channels for this autoencoder")


def _recipe(recipe: type[R], kind: Kind, args: argparse.Namespace, **more: Any) -> R:
    loop = {name: getattr(args, name) for name in ("steps", "learning_rate", "seed")}
    task = {"batch_size": args.batch_size}
    given = [{name: value for name, value in section.items() if value is not None} for section in (loop, task)]
    try:
        return recipe.from_dict(read_recipe(kind, args.config, *given, **more))
    except TypeError as error:
        raise ConfigError(f"{args.config} holds a value of the wrong kind: {error}") from error


def _split(folders: list[Path], holdout: float) -> tuple[list[Path], PhotoSplit]:
    """All photographs, and which of them to measure on; both parts must hold some."""
    photos = find_images(folders)
    split = split_photos(photos, holdout)
    if not split.train or not split.held_out:
        raise ConfigError(
            f"of {len(photos)} photographs {len(split.held_out)} are held out, and both to train and to measure there "
            "must be some; add photographs or change holdout"
        )
    return photos, split


def _prepare(args: argparse.Namespace, recipe: AutoencoderRecipe | LdmRecipe | MmleRecipe) -> None:
    """Refuse what would fail hours later, and note the recipe in the run's folder."""
    if missing := [name for name in ("cv2", "scipy", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise MissingExtraError(f"training needs {', '.join(missing)}: pip install 'adadiffsr[train]'")
    set_threads(args.threads)
    claim_cache(args.folder, {"networks": recipe.net.to_dict()})
    with whole_file(args.folder / "recipe.json") as partial:
        partial.write_text(json.dumps(recipe.to_dict(), indent=1) + "\n", encoding="utf-8")


def _train(task: Task, config: LoopConfig, folder: Path) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with logging_redirect_tqdm():
        Run(task, config, folder).train()
    say(f"{folder / 'weights.safetensors'}: {task.name} after {config.steps} steps")
    return 0
