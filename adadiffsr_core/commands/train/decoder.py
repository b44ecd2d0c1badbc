"""`adadiffsr train decoder`."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.arrays import check_caches
from ...data.dataset import PairDataset, check_size
from ...data.origin import claim_cache
from ...files import fingerprint_content
from ...models.model import embedded_weights, load_model
from ...settings import PRESETS
from ...training.recipe import DecoderRecipe
from ...training.tasks.decoder import DecoderTask
from ...training.tasks.setup import Examples, TaskSetup
from ...training.walks.sampled import SampledPairs, build_sampled_pairs, sampled_layouts
from ..options import parse_folder, parse_path
from .common import add_common, choose_recipe, find_photographs, fit_networks, open_processor, prepare_run, train_task
from .pairs import describe_pairs


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("decoder", help="the decoder, on what the model samples", allow_abbrev=False)
    parser.add_argument("--model", type=parse_path, metavar="FILE", help="that samples; the embedded one if not given")
    parser.add_argument(
        "--cache", type=parse_folder, metavar="FOLDER", help="what was sampled, shared by runs (in the run's folder)"
    )
    parser.set_defaults(run=train_decoder)
    add_common(parser)


def train_decoder(args: argparse.Namespace) -> int:
    """Sample degraded photographs, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    recipe = choose_recipe(DecoderRecipe, "decoder", args)
    weights = args.model or embedded_weights()
    processor = open_processor(recipe)
    model = load_model(weights, processor.device)
    check_size(recipe.data.size_px, model.autoencoder.config.factor * model.unet.config.multiple, "this model needs")
    recipe = fit_networks(recipe, "decoder", model.autoencoder.config.to_dict())
    cache, counts = args.cache or args.folder, {"held_out": recipe.held_out, "pairs": recipe.pairs}
    check_caches({cache / name: sampled_layouts(model, n, recipe.data.size_px) for name, n in counts.items()})
    photos, split = find_photographs(args, recipe.holdout)
    facts = {"model": fingerprint_content(weights)}
    prepare_run(args, recipe, **facts)
    seed, origin = describe_pairs(recipe, photos, **facts, preset=recipe.preset)

    def build(name: str, paths: list[Path], seed: int) -> SampledPairs:
        claim_cache(cache / name, origin)
        dataset = PairDataset(paths, recipe.data, seed, counts[name])
        return build_sampled_pairs(cache / name, dataset, model, replace(PRESETS[recipe.preset], seed=seed))

    held_out = build("held_out", split.held_out, seed + 1)
    examples = Examples(build("pairs", split.train, seed), held_out)
    setup = TaskSetup(processor, recipe.loop.seed, facts)
    return train_task(DecoderTask(model.autoencoder, recipe.task, examples, setup), recipe.loop, args.folder)
