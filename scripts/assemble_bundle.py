"""Joins separately trained networks into one weights file.

    python -m scripts.assemble_bundle OUT LDM [MMLE] [PFJ]

Each file is what `adadiffsr train` writes. Of the parts' facts those that say how they were trained are kept, by kind.
"""

import argparse
from pathlib import Path

from adadiffsr_core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adadiffsr_core.errors import ConfigError


def assemble(parts: list[Path], out: Path) -> None:
    """Write a bundle of the files' networks.

    Raises:
        CheckpointError: a file cannot be used.
        ConfigError: two files are of one kind.
    """
    checkpoints = [load_checkpoint(path, "ldm", "mmle", "pfj") for path in parts]
    kinds = [checkpoint.kind for checkpoint in checkpoints]
    if twice := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise ConfigError(f"two files hold {twice[0]}; a bundle has one of each")
    config = {name: section for checkpoint in checkpoints for name, section in checkpoint.config.items()}
    tensors = {key: value for checkpoint in checkpoints for key, value in checkpoint.tensors.items()}
    facts = {checkpoint.kind: dict(checkpoint.facts) for checkpoint in checkpoints}
    save_checkpoint(Checkpoint("bundle", config, tensors, facts), out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", type=Path, nargs="+")
    args = parser.parse_args()
    assemble(args.parts, args.out)


if __name__ == "__main__":
    main()
