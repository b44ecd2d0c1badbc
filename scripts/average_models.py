"""Averages the UNets of two diffusion models of which one was trained on from the other.

    python -m scripts.average_models OUT FIRST SECOND [--share 0.5]

What both have besides, such as the autoencoder, is the first's. Between a model and what a discriminator made of it lie
others, with less of what is wrong with either (decision D79).

Source: network interpolation (Wang et al. 2018, ESRGAN, section 3.4).
"""

import argparse
from pathlib import Path

from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.models.networks import UNET_PREFIX


def average(first: Path, second: Path, out: Path, share: float = 0.5) -> None:
    """Write a weights file of kind `ldm`.

    Args:
        first: of kind `ldm`; its facts are kept, with the second's under `averaged`.
        second: likewise, of the same shape.
        out: what is written.
        share: of the second in the UNet, 0 to 1.

    Raises:
        CheckpointError: a file cannot be used.
        ConfigError: the models differ in more than their UNets' values, or `share` is not in [0,1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share must be in [0,1], got {share}")
    one, other = (load_checkpoint(path, "ldm") for path in (first, second))
    named = "unet", "autoencoder", "schedule"
    if one.tensors.keys() != other.tensors.keys() or any(one.config[n] != other.config.get(n) for n in named):
        raise ConfigError(f"{first} and {second} are not models of one shape, so nothing lies between them")
    tensors = dict(one.tensors)
    for name in tensors:
        if name.startswith(UNET_PREFIX):
            mixed = tensors[name].float().lerp(other.tensors[name].float(), share)
            tensors[name] = mixed.to(tensors[name].dtype)
    facts = {**one.facts, "averaged": {"share": share, **other.facts}}
    save_checkpoint(Checkpoint("ldm", one.config, tensors, facts), out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second (0.5)")
    args = parser.parse_args()
    average(args.first, args.second, args.out, args.share)


if __name__ == "__main__":
    main()
