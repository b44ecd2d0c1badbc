"""`adadiffsr train mmle`."""

import argparse
from typing import Any, get_args

from ...data.origin import fingerprint_files
from ...files import fingerprint_content
from ...metrics.registry import create_metric
from ...models.model import embedded_weights, load_model
from ...training.recipe import MmleRecipe
from ...training.tasks.mmle import choose_metrics
from ...training.walks.targets import Reference
from ...training.walks.teaching import Teacher, check_disk, check_recipe, learn_difficulty, make_task, rate_walks
from ...training.walks.walked_model import OwnModel
from ..options import parse_folder, parse_names, parse_path, parse_source
from ..terminal import say
from .common import (
    add_common,
    choose_recipe,
    drawing_settings,
    find_photographs,
    fit_networks,
    open_processor,
    prepare_run,
    train_task,
)


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("mmle", help="the regressor of information gain", allow_abbrev=False)
    parser.add_argument(
        "--model", type=parse_path, metavar="FILE", help="weights to walk; the embedded model if not given"
    )
    parser.add_argument(
        "--cache", type=parse_folder, metavar="FOLDER", help="walks and their metrics (in the run's folder)"
    )
    parser.add_argument(
        "--reference", choices=get_args(Reference), help="compare with the low-quality picture or truth"
    )
    parser.add_argument("--metrics", type=parse_names, metavar="A,B,..", help="to learn, with and without reference")
    parser.add_argument("--iqa-weights", type=parse_source, metavar="FOLDER", help="local weights of BRISQUE and NIQE")
    parser.set_defaults(run=train_mmle)
    add_common(parser)


def train_mmle(args: argparse.Namespace) -> int:
    """Walk degraded tiles with the frozen diffusion model, measure, then train; in the end, teach difficulty.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    given = {"reference": args.reference, "net": args.metrics and choose_metrics(args.metrics)}
    recipe = choose_recipe(MmleRecipe, "mmle", args, **{name: value for name, value in given.items() if value})
    weights = args.model or embedded_weights()
    processor = open_processor(recipe)
    model = OwnModel(load_model(weights, processor.device), recipe.walk.sampling.pfj_strength)
    recipe = fit_networks(recipe, "mmle", {"latent_channels": model.channels})
    check_recipe(recipe, model)
    check_disk(recipe, model, args.cache or args.folder)
    photos, split = find_photographs(args, recipe.holdout)
    prepare_run(args, recipe)
    folder, device = args.iqa_weights, processor.device
    metrics = {name: create_metric(name, device, weights_folder=folder) for name in recipe.net.metrics}
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
    walks = rate_walks(recipe, Teacher(model, metrics), split, args.cache or args.folder, origin)
    task = make_task(recipe, walks, weights.name, processor)
    train_task(task, recipe.loop, args.folder)
    if recipe.ends:
        say(f"{learn_difficulty(recipe, model, split, args.folder)}: with what it tells of difficulty")
    return 0
