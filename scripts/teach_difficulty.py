"""Teaches the regressor of a weights file how far tiles stray where steps are skipped (decision D71).

    python -m scripts.teach_difficulty PHOTOS OUT [--model FILE] [--walks 256] [--held-out 48] [--seed 0]

The file's other networks and what its regressor says of metrics stay as they are. Prints the rank correlation of what
it guesses with what is so, on photographs that it did not learn from, by visit.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from adadiffsr_core.data.dataset import PairConfig, PairDataset, split_photos
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import embedded_weights, load_model
from adadiffsr_core.models.networks import MMLE_PREFIX
from adadiffsr_core.sampling.agreement import spearman
from adadiffsr_core.settings import PRESETS
from adadiffsr_core.training.walks.difficulty import EVALUATIONS, Ends, fit_difficulty, guess_difficulty, walk_ends

BATCH = 8
HOLDOUT = 0.05


def describe(guess: torch.Tensor, ends: Ends) -> dict[str, list[float]]:
    """Rank correlation of each visit of the short walk, and how far the guesses are off in the mean square."""
    rows = range(guess.shape[1] - EVALUATIONS, guess.shape[1])
    errors = [float((guess[:, row] - ends.difficulty).square().mean().sqrt()) for row in rows]
    return {
        "rank_correlation": [round(spearman(guess[:, row], ends.difficulty), 3) for row in rows],
        "error": [round(error, 3) for error in errors],
    }


def main() -> None:
    """Walk, fit, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=embedded_weights())
    parser.add_argument("--walks", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=48)
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
    ends = []
    for paths, count, seed in ((split.train, args.walks, args.seed), (split.held_out, args.held_out, args.seed + 1)):
        sampling = replace(PRESETS["everyday"], seed=seed)
        batches = [range(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
        with tqdm(total=count, desc="walks", mininterval=5) as bar:
            dataset = PairDataset(paths, config, seed, count)
            ends.append(walk_ends(model, dataset, sampling, batches, bar.update))
    taught = fit_difficulty(model.mmle, ends[0])
    facts = {"walks": args.walks, "seed": args.seed, **describe(guess_difficulty(taught, ends[1]), ends[1])}
    sys.stdout.write(json.dumps(facts) + "\n")
    file = load_checkpoint(args.model, "bundle", "mmle")
    head = {f"{MMLE_PREFIX}{key}": value for key, value in taught.state_dict().items() if key.startswith("difficulty")}
    described = {**file.config, "mmle": taught.config.to_dict()}
    save_checkpoint(
        replace(file, config=described, tensors={**file.tensors, **head}, facts={**file.facts, "difficulty": facts}),
        args.out,
    )


if __name__ == "__main__":
    main()
