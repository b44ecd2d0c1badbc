"""`adadiffsr train ldm --init` with a Stable Diffusion checkpoint."""

import argparse
from dataclasses import replace

from ...data.dataset import check_size
from ...data.latent_pairs import PairEncoder
from ...data.origin import fingerprint_content, fingerprint_weights
from ...errors import ConfigError
from ...models.latent_colours import SD_COLOURS
from ...models.ldm_format import LdmCheckpoint
from ...nets.empty_prompt import embed_empty_prompt
from ...training.recipe import FinetuneRecipe
from ...training.tasks.finetune import FinetuneTask
from ...training.tasks.latent_colours import RoughDecoder
from ...training.tasks.setup import Examples, TaskSetup
from .common import choose_recipe, open_processor, train_task
from .pairs import prepare_pairs

# Pairs encoded at once: its encoder works at full resolution, 128 channels wide.
_ENCODED = 2


def finetune(args: argparse.Namespace) -> int:
    """Encode pairs by the checkpoint's own autoencoder, then train UNet and feature injection.

    Raises:
        AdaDiffSRError: anything that makes training impossible, in one sentence.
    """
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
