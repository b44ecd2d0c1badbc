"""`adadiffsr train mmle`."""

import argparse
from pathlib import Path
from typing import Any, get_args

from ...errors import ConfigError
from ...metrics.registry import create_metric
from ...pipeline import Model, embedded_weights, load_model
from ...training.dataset import PairDataset
from ...training.mmle import MmleTask, RatedWalks, choose_metrics
from ...training.origin import claim_cache, fingerprint_content, fingerprint_files
from ...training.recipe import MmleRecipe
from ...training.targets import Reference, measure_targets
from ...training.walks import build_walks
from ..options import parse_names
from .common import add_common, choose_recipe, drawing_settings, find_photographs, prepare_run, train_task


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("mmle", help="the regressor of information gain", allow_abbrev=False)
    parser.add_argument("--model", type=Path, metavar="FILE", help="weights to walk; the embedded model if not given")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="walks and their metrics (in the run's folder)")
    parser.add_argument(
        "--reference", choices=get_args(Reference), help="compare with the low-quality picture or truth"
    )
    parser.add_argument("--metrics", type=parse_names, metavar="A,B,..", help="to learn, with and without reference")
    parser.add_argument("--iqa-weights", type=Path, metavar="FOLDER", help="local weights of BRISQUE and NIQE")
    parser.set_defaults(run=train_mmle)
    add_common(parser)


def train_mmle(args: argparse.Namespace) -> int:
    """Walk degraded tiles with the frozen diffusion model, measure, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    given = {"reference": args.reference, "net": args.metrics and choose_metrics(args.metrics)}
    recipe = choose_recipe(MmleRecipe, "mmle", args, **{name: value for name, value in given.items() if value})
    weights = args.model or embedded_weights()
    model = load_model(weights)
    _check_tiles(recipe, model)
    photos, split = find_photographs(args.data, recipe.holdout)
    prepare_run(args, recipe)
    metrics = {name: create_metric(name, weights_folder=args.iqa_weights) for name in recipe.net.metrics}
    origin = {
        "photographs": fingerprint_files(photos),
        "model": fingerprint_content(weights),
        "settings": {
            "data": drawing_settings(recipe.data),
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
    return train_task(task, loop, args.folder)


def _check_tiles(recipe: MmleRecipe, model: Model) -> None:
    side = model.autoencoder.config.factor * model.unet.config.multiple
    if recipe.data.size_px % side:
        raise ConfigError(f"size_px {recipe.data.size_px} is not a multiple of {side}, as this model needs")
    if recipe.net.latent_channels != model.unet.config.out_channels:
        raise ConfigError(f"net must have {model.unet.config.out_channels} latent_channels for this model")
