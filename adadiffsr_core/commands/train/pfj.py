"""`adadiffsr train pfj`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from ...data.dataset import check_size
from ...data.latent_pairs import PairEncoder
from ...data.origin import fingerprint_weights
from ...files import fingerprint_content
from ...models.model import Model, embedded_weights, load_model
from ...models.networks import load_mmle
from ...models.processor import Processor
from ...nets.pfj import InjectionMode
from ...training.recipe import PfjRecipe
from ...training.tasks.pfj import PfjTask
from ...training.tasks.setup import Examples, TaskSetup
from ..options import parse_path
from .common import add_common, choose_recipe, fit_networks, open_processor, train_task
from .pairs import add_cache, prepare_pairs


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("pfj", help="feature injection", allow_abbrev=False)
    parser.add_argument(
        "--model", type=parse_path, metavar="FILE", help="the diffusion model; the embedded one if not given"
    )
    parser.add_argument(
        "--mmle", type=parse_path, metavar="FILE", help="regressor of gain (the model's, or statistics)"
    )
    parser.add_argument("--mode", choices=get_args(InjectionMode), help="how features are fused (pfj)")
    parser.add_argument("--joint", action="store_true", help="train the diffusion model's UNet as well")
    add_cache(parser)
    parser.set_defaults(run=train_pfj)
    add_common(parser)


def train_pfj(args: argparse.Namespace) -> int:
    """Degrade and encode pairs, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    given = {"net": args.mode and {"mode": args.mode}, "joint": args.joint}
    recipe = choose_recipe(PfjRecipe, "pfj", args, **{name: value for name, value in given.items() if value})
    weights = args.model or embedded_weights()
    processor = open_processor(recipe)
    model = _load_model(args, weights, recipe, processor)
    unet = model.unet.config
    recipe = fit_networks(recipe, "pfj", {"latent_channels": unet.out_channels, "channels": unet.widths})
    facts = {"model": fingerprint_content(weights), "estimator": _describe_estimator(args, model)}
    pairs, held_out = prepare_pairs(
        args,
        recipe,
        PairEncoder(model.autoencoder, processor),
        fingerprint_weights(model.autoencoder.encoder),
        {**facts, "joint": recipe.joint, "seed": recipe.loop.seed},
    )
    setup = TaskSetup(processor, recipe.loop.seed, facts)
    task = PfjTask(recipe.net, recipe.task, model, Examples(pairs, held_out), setup, recipe.joint)
    return train_task(task, recipe.loop, args.folder)


def _load_model(args: argparse.Namespace, weights: Path, recipe: PfjRecipe, processor: Processor) -> Model:
    """The model, with the regressor asked for, if the recipe fits it."""
    model = load_model(weights, processor.device)
    if args.mmle is not None:
        model = replace(model, mmle=load_mmle(args.mmle, processor.device))
    side = model.autoencoder.config.factor * model.unet.config.multiple
    check_size(recipe.data.size_px, side, "this model needs")
    return model


def _describe_estimator(args: argparse.Namespace, model: Model) -> str:
    if args.mmle is not None:
        return fingerprint_content(args.mmle)
    return "the model's MMLE" if model.mmle else "LatentStatistics"
