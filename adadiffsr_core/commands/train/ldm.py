"""`adadiffsr train ldm`: from nothing, from a model of ours, or from a Stable Diffusion checkpoint."""

import argparse
from typing import Any, get_args

from ...data.dataset import check_size
from ...errors import ConfigError
from ...models.checkpoint import Checkpoint, load_checkpoint
from ...models.ldm_format import is_ours
from ...models.networks import UNET_PREFIX, read_schedule
from ...sampling.schedule import Target
from ...training.recipe import LdmRecipe
from ...training.tasks.ldm import LdmTask, load_autoencoder
from ...training.tasks.setup import Examples, TaskSetup
from ..options import parse_path
from .common import add_common, choose_recipe, open_processor, train_task
from .finetune import finetune
from .pairs import add_cache, prepare_source


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("ldm", help="the diffusion model", allow_abbrev=False)
    parser.add_argument(
        "--autoencoder",
        type=parse_path,
        metavar="FILE",
        help="weights of the autoencoder (those of --init, if it is ours)",
    )
    parser.add_argument(
        "--init",
        type=parse_path,
        metavar="FILE",
        help="a model of ours, or a Stable Diffusion checkpoint, to begin with",
    )
    parser.add_argument("--target", choices=get_args(Target), help="what is denoised (the recipe's)")
    add_cache(parser)
    group = parser.add_argument_group("with a Stable Diffusion checkpoint")
    group.add_argument(
        "--prediction", choices=("auto", "eps", "v"), help="what its UNet predicts (auto: as ComfyUI finds it)"
    )
    parser.set_defaults(run=train_ldm)
    add_common(parser)


def train_ldm(args: argparse.Namespace) -> int:
    """Degrade and encode pairs, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    if args.init is not None and not is_ours(args.init):
        if args.autoencoder is not None or args.target is not None:
            raise ConfigError(
                "--autoencoder and --target are not for Stable Diffusion checkpoints, which have their own"
            )
        return finetune(args)
    if args.prediction is not None:
        raise ConfigError("--prediction is for fine-tuning a Stable Diffusion checkpoint")
    start = None if args.init is None else load_checkpoint(args.init, "ldm", "bundle")
    weights = args.autoencoder or args.init
    if weights is None:
        raise ConfigError("name the autoencoder's weights by --autoencoder, or a whole model by --init")
    recipe = _choose_recipe(args, start)
    processor = open_processor(recipe)
    autoencoder = load_autoencoder(weights).to(processor.device)
    _check_sizes(recipe, autoencoder.config.factor, autoencoder.config.z_channels)
    pairs, held_out, pictures = prepare_source(args, recipe, autoencoder, processor)
    seed, scales = recipe.loop.seed, recipe.data.scales
    setup = TaskSetup(processor, seed, {"scales": scales})
    task = LdmTask(recipe.net, recipe.task, autoencoder, Examples(pairs, held_out), pictures, setup)
    if start is not None:
        start.load_into(task.networks["unet"], UNET_PREFIX)  # a run that goes on loads its own over it
    return train_task(task, recipe.loop, args.folder)


def _choose_recipe(args: argparse.Namespace, start: Checkpoint | None) -> LdmRecipe:
    """That of the shipped model, or of its second training, whose network and schedule are the file's."""
    given = {} if args.target is None else {"target": args.target}
    if start is None:
        return choose_recipe(LdmRecipe, "ldm", args, task_settings=given)
    known = read_schedule(start)
    if args.target not in (None, known.target):
        raise ConfigError(f"{start.path} denoises the {known.target}; leave --target out")
    net = start.section("unet")
    return choose_recipe(
        LdmRecipe, "ldm_continue", args, net=net, task_settings={"target": known.target, "prediction": known.prediction}
    )


def _check_sizes(recipe: LdmRecipe, factor: int, channels: int) -> None:
    check_size(recipe.data.size_px, factor * recipe.net.multiple, "these networks need")
    if (recipe.net.in_channels, recipe.net.out_channels) != (2 * channels, channels):
        raise ConfigError(f"net must have {2 * channels} in_channels and {channels} out_channels for this autoencoder")
