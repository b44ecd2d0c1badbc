"""`adadiffsr train ldm`: from nothing, from a model of ours, or from a Stable Diffusion checkpoint."""

import argparse
from pathlib import Path
from typing import Any

from ...checkpoint import Checkpoint, load_checkpoint
from ...errors import ConfigError
from ...networks import UNET_PREFIX
from ...training.ldm import LdmTask, load_autoencoder
from ...training.ldm_format import is_ours
from ...training.origin import fingerprint_weights
from ...training.recipe import LdmRecipe
from .common import add_common, choose_recipe, train_task
from .finetune import finetune
from .pairs import add_cache, prepare_pairs


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("ldm", help="the diffusion model", allow_abbrev=False)
    parser.add_argument(
        "--autoencoder", type=Path, metavar="FILE", help="weights of the autoencoder (those of --init, if it is ours)"
    )
    parser.add_argument(
        "--init", type=Path, metavar="FILE", help="a model of ours, or a Stable Diffusion checkpoint, to begin with"
    )
    add_cache(parser)
    group = parser.add_argument_group("with a Stable Diffusion checkpoint")
    group.add_argument(
        "--prediction", choices=("auto", "eps", "v"), help="what its UNet predicts (auto: as ComfyUI finds it)"
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 (cuda if there is one, else cpu)")
    parser.set_defaults(run=train_ldm)
    add_common(parser)


def train_ldm(args: argparse.Namespace) -> int:
    """Degrade and encode pairs, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    if args.init is not None and not is_ours(args.init):
        if args.autoencoder is not None:
            raise ConfigError("--autoencoder is not for Stable Diffusion checkpoints, which have their own")
        return finetune(args)
    if args.prediction is not None or args.device is not None:
        raise ConfigError("--prediction and --device are for fine-tuning a Stable Diffusion checkpoint")
    start = None if args.init is None else load_checkpoint(args.init, "ldm", "bundle")
    weights = args.autoencoder or args.init
    if weights is None:
        raise ConfigError("name the autoencoder's weights by --autoencoder, or a whole model by --init")
    recipe = _choose_recipe(args, start)
    autoencoder = load_autoencoder(weights)
    _check_sizes(recipe, autoencoder.config.factor, autoencoder.config.z_channels)
    pairs, held_out = prepare_pairs(args, recipe, autoencoder, fingerprint_weights(autoencoder.encoder))
    task = LdmTask(recipe.net, recipe.task, autoencoder, pairs, held_out, recipe.loop.seed, recipe.loop.bfloat16)
    if start is not None:
        start.load_into(task.networks["unet"], UNET_PREFIX)  # a run that goes on loads its own over it
    return train_task(task, recipe.loop, args.folder)


def _choose_recipe(args: argparse.Namespace, start: Checkpoint | None) -> LdmRecipe:
    """That of the shipped model, or of its second training, whose network is the file's."""
    if start is None:
        return choose_recipe(LdmRecipe, "ldm", args)
    recipe = choose_recipe(LdmRecipe, "ldm_continue", args, net=start.section("unet"))
    if (known := start.section("schedule").get("prediction")) != recipe.task.prediction:
        raise ConfigError(f"{start.path} predicts {known}; set prediction to it in the recipe's section task")
    return recipe


def _check_sizes(recipe: LdmRecipe, factor: int, channels: int) -> None:
    side = factor * recipe.net.multiple
    if recipe.data.size_px % side:
        raise ConfigError(f"size_px {recipe.data.size_px} is not a multiple of {side}, as these networks need")
    if (recipe.net.in_channels, recipe.net.out_channels) != (2 * channels, channels):
        raise ConfigError(f"net must have {2 * channels} in_channels and {channels} out_channels for this autoencoder")
