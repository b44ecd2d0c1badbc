"""Joins separately trained networks into one weights file.

    python -m scripts.assemble_bundle OUT LDM [MMLE] [PFJ] [AUTOENCODER] [--photos FOLDER] [--scales LEAST MOST]

Each file is what `adadiffsr train` writes. An autoencoder takes the place of the diffusion model's own: its decoder may
have been trained on, while the encoder must be the same. Of the parts' facts those that say how they were trained are
kept, by kind.
From the photographs the bundle learns the colours of its latents, which ComfyUI shows while it samples; for Stable
Diffusion's own latent space ComfyUI knows them.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from adadiffsr_core.data.photo_files import find_images, load_image
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.latent_colours import LatentColours
from adadiffsr_core.models.networks import AUTOENCODER_PREFIX
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.training.tasks.latent_colours import fit_colours
from adadiffsr_core.training.tasks.ldm import load_autoencoder

MOST_PHOTOS = 32
SIDE_PX = 512


def assemble(
    parts: list[Path], out: Path, photos: Path | None = None, scales: tuple[float, float] | None = None
) -> None:
    """Write a bundle of the files' networks.

    Args:
        parts: weights files.
        out: the bundle.
        photos: a folder of photographs to learn the latents' colours from; None for none.
        scales: smallest and largest that the model is good at; None leaves those that it was trained for.

    Raises:
        CheckpointError: a file cannot be used.
        ConfigError: two files are of one kind, none has an autoencoder for the photographs, or they are too few; an
            autoencoder encodes otherwise than the diffusion model's.
        ImageError: a photograph cannot be read.
    """
    checkpoints = [load_checkpoint(path, "ldm", "mmle", "pfj", "autoencoder") for path in parts]
    checkpoints.sort(key=lambda checkpoint: checkpoint.kind == "autoencoder")  # it goes over the diffusion model's
    kinds = [checkpoint.kind for checkpoint in checkpoints]
    by_kind = dict(zip(kinds, checkpoints, strict=True))
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ConfigError(f"two files hold {twice[0]}; a bundle has one of each")
    if {"ldm", "autoencoder"} <= set(kinds):
        _check_encoders(by_kind["ldm"], by_kind["autoencoder"])
    config = {name: section for checkpoint in checkpoints for name, section in checkpoint.config.items()}
    tensors = {key: value for checkpoint in checkpoints for key, value in checkpoint.tensors.items()}
    facts = {checkpoint.kind: dict(checkpoint.facts) for checkpoint in checkpoints}
    if scales is not None:
        config["scales"] = list(scales)
    if photos is not None:
        if "ldm" not in kinds:
            raise ConfigError("colours are those of a diffusion model's latents; name its file too")
        config["preview"] = find_colours(load_autoencoder(by_kind["ldm"].path), photos).to_dict()
    save_checkpoint(Checkpoint("bundle", config, tensors, facts), out)


def _check_encoders(model: Checkpoint, autoencoder: Checkpoint) -> None:
    prefix = f"{AUTOENCODER_PREFIX}encoder."
    one, other = (
        {key: value for key, value in file.tensors.items() if key.startswith(prefix)} for file in (model, autoencoder)
    )
    if one.keys() != other.keys() or not all(torch.equal(one[key], other[key]) for key in one):
        raise ConfigError(f"{autoencoder.path} encodes otherwise than {model.path}, whose latents are its encoder's")


def find_colours(autoencoder: Autoencoder, photos: Path) -> LatentColours:
    """The colours of an autoencoder's latents, by up to `MOST_PHOTOS` of a folder's photographs."""
    return fit_colours(_encode(autoencoder, find_images([photos])[:MOST_PHOTOS]))


@torch.inference_mode()
def _encode(autoencoder: Autoencoder, paths: list[Path]) -> Iterator[tuple[Tensor, Tensor]]:
    factor = autoencoder.config.factor
    for path in paths:
        pixels = load_image(path)
        height, width = (min(side, SIDE_PX) // factor * factor for side in pixels.shape[:2])
        image = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)[None].float() / 255
        yield image, autoencoder.encode(image)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="to learn the latents' colours from")
    parser.add_argument("--scales", type=float, nargs=2, metavar=("LEAST", "MOST"), help="that it is good at")
    args = parser.parse_args()
    assemble(args.parts, args.out, args.photos, args.scales and (args.scales[0], args.scales[1]))


if __name__ == "__main__":
    main()
