"""`adadiffsr train autoencoder`."""

import argparse
from pathlib import Path
from typing import Any

from ...checkpoint import load_checkpoint
from ...training.autoencoder import AutoencoderTask
from ...training.recipe import AutoencoderRecipe
from ...training.taesd import Taesd
from ...training.teacher import TeacherCache, build_teacher_cache
from .common import add_common, choose_recipe, find_photographs, prepare_run, train_task


def add_parser(networks: Any) -> None:
    """Add the subcommand to the parser of `adadiffsr train`."""
    parser = networks.add_parser("autoencoder", help="taught by TAESD", allow_abbrev=False)
    parser.add_argument("--teacher", type=Path, required=True, metavar="FOLDER", help="TAESD's two weights files")
    parser.add_argument("--init", type=Path, metavar="FILE", help="an autoencoder's weights to begin a run with")
    parser.set_defaults(run=train_autoencoder)
    add_common(parser)


def train_autoencoder(args: argparse.Namespace) -> int:
    """Encode the photographs by the teacher, then train.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
    recipe = choose_recipe(AutoencoderRecipe, "autoencoder", args)
    start = None if args.init is None else load_checkpoint(args.init, "autoencoder", "ldm", "bundle")
    photos, split = find_photographs(args.data, recipe.holdout)
    prepare_run(args, recipe)
    held_out = set(split.held_out)
    cache = args.folder / "teacher"
    build_teacher_cache(cache, photos, Taesd(args.teacher), recipe.loop.seed)
    data = TeacherCache(cache, [photo in held_out for photo in photos])
    task = AutoencoderTask(recipe.net, recipe.task, data, recipe.loop.seed, recipe.loop.bfloat16)
    if start is not None:
        start.load_into(task.networks["autoencoder"], "first_stage_model.")  # a run that goes on loads its own over it
    return train_task(task, recipe.loop, args.folder)
