"""`adadiffsr train ldm`."""

import argparse
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...training.dataset import PairDataset
from ...training.latent_pairs import LatentPairs, build_latent_pairs
from ...training.ldm import LdmTask, load_autoencoder
from ...training.origin import claim_cache, fingerprint_content, fingerprint_files
from ...training.recipe import LdmRecipe
from .common import add_common, choose_recipe, drawing_settings, find_photographs, prepare_run, train_task


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("ldm", help="the diffusion model", allow_abbrev=False)
    parser.add_argument("--autoencoder", type=Path, required=True, metavar="FILE", help="weights of the autoencoder")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that make pairs (0)")
    parser.set_defaults(run=train_ldm)
    add_common(parser)


def train_ldm(args: argparse.Namespace) -> int:
    """Degrade and encode pairs, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    recipe = choose_recipe(LdmRecipe, "ldm", args)
    autoencoder = load_autoencoder(args.autoencoder)
    _check_sizes(recipe, autoencoder.config.factor, autoencoder.config.z_channels)
    photos, split = find_photographs(args.data, recipe.holdout)
    prepare_run(args, recipe)
    origin = {
        "photographs": fingerprint_files(photos),
        "autoencoder": fingerprint_content(args.autoencoder),
        "settings": {"data": drawing_settings(recipe.data), "holdout": recipe.holdout, "seed": recipe.loop.seed},
    }

    def build(name: str, paths: list[Path], seed: int, count: int) -> LatentPairs:
        claim_cache(args.folder / name, origin)
        dataset = PairDataset(paths, recipe.data, seed, count)
        return build_latent_pairs(args.folder / name, dataset, autoencoder, args.workers)

    held_out = build("held_out", split.held_out, recipe.loop.seed + 1, recipe.held_out)
    pairs = build("pairs", split.train, recipe.loop.seed, recipe.pairs)
    task = LdmTask(recipe.net, recipe.task, autoencoder, pairs, held_out, recipe.loop.seed, recipe.loop.bfloat16)
    return train_task(task, recipe.loop, args.folder)


def _check_sizes(recipe: LdmRecipe, factor: int, channels: int) -> None:
    side = factor * recipe.net.multiple
    if recipe.data.size_px % side:
        raise ConfigError(f"size_px {recipe.data.size_px} is not a multiple of {side}, as these networks need")
    if (recipe.net.in_channels, recipe.net.out_channels) != (2 * channels, channels):
        raise ConfigError(f"net must have {2 * channels} in_channels and {channels} out_channels for this autoencoder")
