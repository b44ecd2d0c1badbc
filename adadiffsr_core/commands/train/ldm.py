"""`adadiffsr train ldm`: from nothing, from a model of ours, or from a Stable Diffusion checkpoint."""

import argparse
from dataclasses import replace
from typing import Any, get_args

import torch

from ...data.dataset import check_size
from ...data.latent_pairs import PairEncoder
from ...data.origin import fingerprint_weights
from ...errors import ConfigError, ShapeError
from ...files import fingerprint_content
from ...metrics.base import Metric
from ...metrics.registry import create_metric
from ...models.checkpoint import Checkpoint, load_checkpoint
from ...models.latent_colours import SD_COLOURS
from ...models.ldm_format import LdmCheckpoint, is_ours
from ...models.networks import UNET_PREFIX, read_schedule
from ...models.processor import Processor
from ...nets.empty_prompt import embed_empty_prompt
from ...sampling.schedule import Target
from ...training.recipe import FinetuneRecipe, LdmRecipe
from ...training.tasks.finetune import FinetuneTask
from ...training.tasks.latent_colours import RoughDecoder
from ...training.tasks.ldm import LdmTask, load_autoencoder
from ...training.tasks.setup import Examples, TaskSetup
from ..options import parse_path, parse_source
from .common import add_common, choose_recipe, open_processor, train_task
from .pairs import add_cache, prepare_pairs, prepare_source

_WATCHED = "niqe"
# Of Stable Diffusion's pairs, so many are encoded at once: its encoder works at full resolution, 128 channels wide.
_ENCODED = 2


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
    parser.add_argument(
        "--finish",
        action="store_true",
        help="finish --init for the eye: ST-LPIPS and a discriminator look at decoded estimates, too",
    )
    parser.add_argument(
        "--iqa-weights", type=parse_source, metavar="FOLDER", help="local weights of NIQE, to watch a run of ours by it"
    )
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
        if args.finish or any(given is not None for given in (args.autoencoder, args.target, args.iqa_weights)):
            raise ConfigError(
                "--autoencoder, --target, --finish and --iqa-weights are not for Stable Diffusion checkpoints"
            )
        return _finetune(args)
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
    metrics = _load_watched(args, recipe, processor)
    pairs, held_out, watched = prepare_source(args, recipe, autoencoder, processor)
    seed, scales = recipe.loop.seed, recipe.data.scales
    setup = TaskSetup(processor, seed, {"scales": scales})
    task = LdmTask(
        recipe.net, recipe.task, autoencoder, Examples(pairs, held_out), watched._replace(metrics=metrics), setup
    )
    if start is not None:
        start.load_into(task.networks["unet"], UNET_PREFIX)  # a run that goes on loads its own over it
    return train_task(task, recipe.loop, args.folder)


def _choose_recipe(args: argparse.Namespace, start: Checkpoint | None) -> LdmRecipe:
    """That of the shipped model, or of its second training or its last, whose network and schedule are the file's."""
    given = {} if args.target is None else {"target": args.target}
    if start is None:
        if args.finish:
            raise ConfigError("--finish goes on from a trained model; name it by --init")
        return choose_recipe(LdmRecipe, "ldm", args, task_settings=given)
    known = read_schedule(start)
    if args.target not in (None, known.target):
        raise ConfigError(f"{start.path} denoises the {known.target}; leave --target out")
    net = start.section("unet")
    return choose_recipe(
        LdmRecipe,
        "ldm_finish" if args.finish else "ldm_continue",
        args,
        net=net,
        task_settings={"target": known.target, "prediction": known.prediction},
    )


def _load_watched(args: argparse.Namespace, recipe: LdmRecipe, processor: Processor) -> list[Metric]:
    """By what a run is watched, besides what it is watched by anyway."""
    if args.iqa_weights is None:
        return []
    metric, side = create_metric(_WATCHED, processor.device, args.iqa_weights), recipe.data.size_px
    try:
        metric(torch.rand(1, 3, side, side))  # sooner than at the first check
    except ShapeError as error:
        raise ConfigError(f"{error}; let data.size_px be larger, or leave --iqa-weights out") from error
    return [metric]


def _check_sizes(recipe: LdmRecipe, factor: int, channels: int) -> None:
    check_size(recipe.data.size_px, factor * recipe.net.multiple, "these networks need")
    if (recipe.net.in_channels, recipe.net.out_channels) != (2 * channels, channels):
        raise ConfigError(f"net must have {2 * channels} in_channels and {channels} out_channels for this autoencoder")


def _finetune(args: argparse.Namespace) -> int:
    """Encode pairs by the checkpoint's own autoencoder, then train UNet and feature injection."""
    source = LdmCheckpoint(args.init)
    recipe = choose_recipe(FinetuneRecipe, "ldm_finetune", args, net=source.unet_config.to_dict())
    if args.prediction is not None:
        recipe = replace(recipe, task=replace(recipe.task, prediction=args.prediction))
    if source.unet_config.context_dim is None:
        raise ConfigError(f"{args.init} has a UNet that reads no text; it is none of Stable Diffusion")
    processor = open_processor(recipe)
    encoder = PairEncoder(processor.install(source.load_encoder()), processor, _ENCODED)
    side = encoder.autoencoder.config.factor * source.unet_config.multiple
    check_size(recipe.data.size_px, side, "this checkpoint needs")
    origin = {"checkpoint": fingerprint_content(args.init)}
    pairs, held_out = prepare_pairs(args, recipe, encoder, fingerprint_weights(encoder.autoencoder), origin)
    del encoder
    context = embed_empty_prompt(source.tensors, source.unet_config.context_dim)
    loop = recipe.loop
    painter = RoughDecoder(SD_COLOURS)
    task = FinetuneTask(
        source, recipe.task, context, Examples(pairs, held_out), painter, TaskSetup(processor, loop.seed)
    )
    return train_task(task, loop, args.folder, "checkpoint.safetensors")
