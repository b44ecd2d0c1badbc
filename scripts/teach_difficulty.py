"""Teaches the regressor of a weights file how far tiles stray where steps are skipped (decision D71).

    python -m scripts.teach_difficulty PHOTOS OUT [--model FILE] [--walks 384] [--held-out 72] [--seed 0]

The file's other networks and what its regressor says of metrics stay as they are. Prints the rank correlation of what
it guesses with what is so, on photographs that it did not learn from, by visit.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from adadiffsr_core.data.dataset import PairConfig, split_photos
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.data.tiles import TileDataset
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.model import embedded_weights, load_model
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.tasks.setup import Examples
from adadiffsr_core.training.walks.difficulty import teach_difficulty, write_difficulty
from adadiffsr_core.training.walks.walked_model import OwnModel

HOLDOUT = 0.05


def main() -> None:
    """Walk, fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=embedded_weights())
    parser.add_argument("--walks", type=int, default=384)
    parser.add_argument("--held-out", type=int, default=72)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--scales", type=float, nargs=2, default=(2.0, 4.0))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load_model(args.model, args.device)
    if model.mmle is None:
        raise ConfigError(f"{args.model} holds no regressor to teach")
    split = split_photos(find_images([args.photos]), HOLDOUT)
    config = PairConfig(size_px=args.size_px, scales=tuple(args.scales))
    tiles = Examples(
        TileDataset(split.train, config, args.seed, args.walks),
        TileDataset(split.held_out, config, args.seed + 1, args.held_out),
    )
    sampling = replace(PRESETS["everyday"], seed=args.seed)
    taught, facts = teach_difficulty(OwnModel(model, sampling.pfj_strength), model.mmle, tiles, sampling)
    sys.stdout.write(json.dumps(facts) + "\n")
    write_difficulty(args.model, taught, facts, args.out)


if __name__ == "__main__":
    main()
