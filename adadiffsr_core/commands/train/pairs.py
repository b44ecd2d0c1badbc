"""Pairs of latents for the commands that train a diffusion model."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from ...data.arrays import check_caches
from ...data.dataset import PairDataset
from ...data.latent_pairs import CHUNK, LatentPairs, PairEncoder, build_latent_pairs
from ...data.origin import claim_cache, fingerprint_files, fingerprint_weights
from ...data.pair_source import ENDLESS, DevicePairs, LivePairs, PairSource, RenewedPairs, Window, window_layouts
from ...data.photo_bank import PhotoBank
from ...models.processor import Processor
from ...nets.autoencoder import Autoencoder
from ...training.recipe import LdmRecipe, PairRecipe
from ...training.tasks.ldm import Watched
from ..options import parse_folder, parse_workers
from .common import drawing_settings, find_photographs, prepare_run

_AT_ONCE = 256  # pairs that a device makes at once: few would leave it idle
_SHOWN = 12  # held-out pictures that a run is watched by


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the options of the pairs."""
    parser.add_argument(
        "--cache", type=parse_folder, metavar="FOLDER", help="pairs, shared by runs (in the run's folder)"
    )
    parser.add_argument("--workers", type=parse_workers, default=0, metavar="N", help="processes that make pairs (0)")


def prepare_pairs(
    args: argparse.Namespace,
    recipe: PairRecipe,
    encoder: PairEncoder,
    fingerprint: str,
    run: Mapping[str, object] | None = None,
) -> tuple[LatentPairs, LatentPairs]:
    """Degrade and encode photographs to train on and to measure on, after the run's folder is prepared.

    Args:
        args: of the command.
        recipe: how to draw them.
        encoder: of the pairs.
        fingerprint: of its weights.
        run: what must not change when the run goes on, besides its networks.

    Raises:
        ConfigError: the folder holds pairs of other photographs, settings or weights.
    """
    photos, split = find_photographs(args, recipe.holdout)
    cache, counts = args.cache or args.folder, {"held_out": recipe.held_out, "pairs": recipe.pairs}
    check_caches({cache / name: encoder.layouts(recipe.data, count) for name, count in counts.items()})
    prepare_run(args, recipe, **(run or {}))
    seed, origin = describe_pairs(recipe, photos, autoencoder=fingerprint)

    def build(name: str, paths: list[Path], seed: int) -> LatentPairs:
        folder = cache / name
        claim_cache(folder, origin)
        dataset = PairDataset(paths, recipe.data, seed, counts[name])
        return build_latent_pairs(folder, dataset, encoder, args.workers)

    held_out = build("held_out", split.held_out, seed + 1)
    return build("pairs", split.train, seed), held_out


def prepare_source(
    args: argparse.Namespace, recipe: LdmRecipe, autoencoder: Autoencoder, processor: Processor
) -> tuple[PairSource, LatentPairs, Watched]:
    """Pairs to train on, made anew or renewed as the run goes on, and fixed ones to measure on and to look at.

    Args:
        args: of the command.
        recipe: how to draw them.
        autoencoder: on the processor's device.
        processor: that trains.

    Raises:
        ConfigError: the folder holds pairs of other photographs, settings or weights.
    """
    photos, split = find_photographs(args, recipe.holdout)
    encoder = PairEncoder(autoencoder, processor)
    data, is_live = recipe.data, processor.device.type == "cuda" if recipe.live is None else recipe.live
    cache, window_folder = args.cache or args.folder, args.folder / "window"
    check_caches({cache / "held_out": encoder.layouts(data, recipe.held_out)})
    if not is_live:
        check_caches({window_folder: window_layouts(data, encoder, recipe.pairs)})
    prepare_run(args, recipe)
    seed, origin = describe_pairs(recipe, photos, autoencoder=fingerprint_weights(autoencoder.encoder))
    claim_cache(cache / "held_out", origin)
    measured = PairDataset(split.held_out, recipe.data, seed + 1, recipe.held_out)
    held_out = build_latent_pairs(cache / "held_out", measured, encoder, args.workers)
    shown = [measured[index] for index in range(min(_SHOWN, recipe.held_out))]
    watched = Watched(torch.stack([gt for gt, _ in shown]), torch.stack([lq for _, lq in shown]))
    if is_live:
        bank = PhotoBank.open(split.train, cache / "photographs.safetensors", processor)
        live = LivePairs(bank, encoder, data, seed)
        window = Window(recipe.pairs, min(recipe.pairs, _AT_ONCE), recipe.renewal)
        return DevicePairs(live, window, recipe.loop.seed), held_out, watched
    # Never in a cache that others read: there pairs must stay what they are.
    claim_cache(window_folder, origin)
    window = Window(recipe.pairs, CHUNK, recipe.renewal)
    endless = PairDataset(split.train, data, seed, ENDLESS)
    renewed = RenewedPairs(window_folder, endless, encoder, window, recipe.loop.seed, args.workers)
    return renewed, held_out, watched


def describe_pairs(recipe: PairRecipe, photos: list[Path], **makers: str) -> tuple[int, dict[str, object]]:
    """The seed of the pairs, and what they are made from.

    Args:
        recipe: how to draw them.
        photos: all of them.
        makers: fingerprints or names of what else makes them, by a name that fits "was made with other ...".
    """
    seed = recipe.loop.seed if recipe.pairs_seed is None else recipe.pairs_seed
    return seed, {
        "photographs": fingerprint_files(photos),
        **makers,
        "settings": {"data": drawing_settings(recipe.data), "holdout": recipe.holdout, "seed": seed},
    }
