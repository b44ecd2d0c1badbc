"""Pairs of latents for the commands that train a diffusion model."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from ...training.dataset import PairDataset
from ...training.latent_pairs import Encoder, LatentPairs, build_latent_pairs
from ...training.origin import claim_cache, fingerprint_files
from ...training.processor import Processor
from ...training.recipe import FinetuneRecipe, LdmRecipe, PfjRecipe
from .common import drawing_settings, find_photographs, prepare_run


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options of the pairs."""
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="pairs, shared by runs (in the run's folder)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that make pairs (0)")


def prepare_pairs(
    args: argparse.Namespace,
    recipe: LdmRecipe | FinetuneRecipe | PfjRecipe,
    encoder: Encoder,
    fingerprint: str,
    batch_size: int = 16,
    run: Mapping[str, object] | None = None,
    processor: Processor | None = None,
) -> tuple[LatentPairs, LatentPairs]:
    """Degrade and encode photographs to train on and to measure on, after the run's folder is prepared.

    Args:
        args: of the command.
        recipe: how to draw them.
        encoder: the autoencoder.
        fingerprint: of its weights.
        batch_size: pairs encoded at once.
        run: what must not change when the run goes on, besides its networks.
        processor: where the encoder is; None is the CPU.

    Raises:
        ConfigError: the folder holds pairs of other photographs, settings or weights.
    """
    photos, split = find_photographs(args.data, recipe.holdout)
    prepare_run(args, recipe, **(run or {}))
    seed = recipe.loop.seed if recipe.pairs_seed is None else recipe.pairs_seed
    origin = {
        "photographs": fingerprint_files(photos),
        "autoencoder": fingerprint,
        "settings": {"data": drawing_settings(recipe.data), "holdout": recipe.holdout, "seed": seed},
    }

    def build(name: str, paths: list[Path], seed: int, count: int) -> LatentPairs:
        folder = (args.cache or args.folder) / name
        claim_cache(folder, origin)
        dataset = PairDataset(paths, recipe.data, seed, count)
        return build_latent_pairs(folder, dataset, encoder, args.workers, batch_size, processor)

    held_out = build("held_out", split.held_out, seed + 1, recipe.held_out)
    return build("pairs", split.train, seed, recipe.pairs), held_out
