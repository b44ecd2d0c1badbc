"""`adadiffsr train autoencoder`."""

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from ...data.origin import fingerprint_files
from ...data.photo_bank import PhotoBank
from ...models.checkpoint import Checkpoint, load_checkpoint
from ...models.networks import AUTOENCODER_PREFIX
from ...training.recipe import AutoencoderRecipe
from ...training.tasks.autoencoder import AutoencoderTask, check_sizes
from ...training.tasks.setup import Examples, TaskSetup
from ...training.tasks.taesd import Taesd
from ..options import parse_path
from .common import add_common, choose_recipe, find_photographs, open_processor, prepare_run, train_task


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("autoencoder", help="pictures to latents and back", allow_abbrev=False)
    parser.add_argument(
        "--teacher",
        type=parse_path,
        metavar="FOLDER",
        help="TAESD's or TAESD3's two weights files: learn its latent space",
    )
    parser.add_argument("--init", type=parse_path, metavar="FILE", help="an autoencoder's weights to begin a run with")
    parser.set_defaults(run=train_autoencoder)
    add_common(parser)


def train_autoencoder(args: argparse.Namespace) -> int:
    """Read the photographs onto the device, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    recipe = choose_recipe(AutoencoderRecipe, "autoencoder", args)
    start = None if args.init is None else load_checkpoint(args.init, "autoencoder", "ldm", "bundle")
    teacher = None if args.teacher is None else Taesd(args.teacher)
    check_sizes(recipe.net, recipe.task, teacher)
    processor = open_processor(recipe)
    photographs, split = find_photographs(args, recipe.holdout)
    taught = None if teacher is None else teacher.channels
    prepare_run(args, recipe, photographs=fingerprint_files(photographs), teacher=taught)
    photos, held_out = (
        PhotoBank.open(paths, args.folder / f"{name}.safetensors", processor)
        for name, paths in (("photographs", split.train), ("held_out", split.held_out))
    )
    setup = TaskSetup(processor, recipe.loop.seed)
    task = AutoencoderTask(recipe.net, recipe.task, Examples(photos, held_out), setup, teacher)
    if start is not None:
        begin_with(task.networks["autoencoder"], start)  # a run that goes on loads its own over it
    return train_task(task, recipe.loop, args.folder)


# What a number of latent channels is a side of, and which.
_LATENT_SIDES = {"encoder.conv_out.weight": 0, "encoder.conv_out.bias": 0, "decoder.conv_in.weight": 1}


def _differs_in(axis: int, given: Tensor, own: Tensor) -> bool:
    """Whether two weights are alike but for one axis; of any others the file is refused as a whole."""
    rest = [[side for place, side in enumerate(tensor.shape) if place != axis] for tensor in (given, own)]
    return given.is_floating_point() and rest[0] == rest[1] and given.ndim == own.ndim


@torch.no_grad()
def begin_with(autoencoder: nn.Module, start: Checkpoint) -> None:
    """Take a file's weights; if it has another number of latent channels, for those that both have.

    Raises:
        CheckpointError: the file's autoencoder is of another shape besides.
    """
    own, tensors = autoencoder.state_dict(), dict(start.tensors)
    for key, axis in _LATENT_SIDES.items():
        given = tensors.get(AUTOENCODER_PREFIX + key)
        if given is not None and _differs_in(axis, given, own[key]):
            shared = min(given.shape[axis], own[key].shape[axis])
            fitted = own[key].detach().to("cpu", given.dtype, copy=True)
            fitted.narrow(axis, 0, shared).copy_(given.narrow(axis, 0, shared))
            tensors[AUTOENCODER_PREFIX + key] = fitted
    Checkpoint(start.kind, start.config, tensors, start.facts, start.path).load_into(autoencoder, AUTOENCODER_PREFIX)
