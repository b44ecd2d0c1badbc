"""Teaches the decoder of a weights file plain colours, and holds whatever else it paints where it is (decision D90).

    python -m scripts.teach_plain_colours PHOTOS OUT [--model FILE] [--steps 600] [--seed 0]

Every other weight stays the same bits. Prints the furthest that any pixel of plain grey, black, white, red, green, blue
and yellow is off, in levels of 255, and how near decoded photographs are to what they were, in dB, before and after.
"""

import argparse
import copy
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from adadiffsr_core.data.flat_colours import SEVEN_COLOURS
from adadiffsr_core.data.photo_files import find_images, load_image
from adadiffsr_core.errors import ConfigError
from adadiffsr_core.models.checkpoint import load_checkpoint, save_checkpoint
from adadiffsr_core.models.model import embedded_weights
from adadiffsr_core.models.networks import AUTOENCODER_PREFIX
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.training.tasks.ldm import load_autoencoder

PLAIN = torch.tensor(SEVEN_COLOURS, dtype=torch.float32)
SIDE_PX, BATCH = 128, 4
LEARNING_RATE = 1e-4
NOISE = 0.1  # of latents, standard deviation: a sampler's are astray


def crop_photos(paths: list[Path], count: int, generator: torch.Generator) -> Tensor:
    """Squares `[count,3,SIDE_PX,SIDE_PX]` in [0,1] of photographs that are large enough.

    Raises:
        ConfigError: fewer than two are.
    """
    found: list[Tensor] = []
    for place in torch.randperm(len(paths), generator=generator).tolist():
        if len(found) == count:
            break
        photo = torch.from_numpy(load_image(paths[place])).movedim(-1, 0)
        room = [length - SIDE_PX for length in photo.shape[-2:]]
        if min(room) >= 0:
            top, left = (int(torch.randint(more + 1, (), generator=generator)) for more in room)
            found.append(photo[:, top : top + SIDE_PX, left : left + SIDE_PX])
    if len(found) < 2:  # one to learn from, one held out
        raise ConfigError(f"at least two photographs must have {SIDE_PX} px on each side, found {len(found)}")
    return torch.stack(found).float() / 255


@torch.no_grad()
def measure(coder: Autoencoder, photos: Tensor, expected: Tensor) -> tuple[float, float]:
    """How far plain colours are off, levels, and how near photographs are to what is expected of them, dB."""
    plain = PLAIN[:, :, None, None].expand(-1, -1, 64, 96)
    off = float((coder.decode(coder.encode(plain)).clamp(0, 1) - plain).abs().max()) * 255
    return off, float(-10 * (coder.decode(coder.encode(photos)) - expected).square().mean().clamp_min(1e-12).log10())


def teach(coder: Autoencoder, photos: Tensor, steps: int, generator: torch.Generator) -> None:
    """Train the decoder: on plain colours to these, on photographs to what it made of them before."""
    before = copy.deepcopy(coder).requires_grad_(False)
    coder.requires_grad_(False).decoder.requires_grad_(True)
    optimiser = torch.optim.Adam(coder.decoder.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = torch.randint(len(photos), (BATCH,), generator=generator)
        plain = PLAIN[torch.randint(len(PLAIN), (BATCH,), generator=generator), :, None, None].expand(-1, -1, 64, 64)
        with torch.no_grad():
            latents = coder.encode(photos[chosen])
            latents = latents + NOISE * torch.randn(latents.shape, generator=generator)
            painted = before.decode(latents)
        error = coder.decode(coder.encode(plain)) - plain
        # By their fourth power, too: the furthest pixel counts.
        loss = (coder.decode(latents) - painted).square().mean() + error.square().mean() + 1e3 * error.pow(4).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def teach_file(model: Path, photos: Tensor, out: Path, steps: int, generator: torch.Generator) -> None:
    """Write what `teach` makes of a file's decoder, with the file's other weights, and say what came of it.

    Args:
        model: weights file with an autoencoder.
        photos: `[n,3,h,w]` in [0,1], at least two; a quarter is only measured on.
        out: where to write.
        steps: to train for.
        generator: of what is drawn.

    Raises:
        CheckpointError: the file cannot be used.
    """
    file, coder = load_checkpoint(model, "bundle", "ldm"), load_autoencoder(model)
    held_out, photos = photos[: -(-len(photos) // 4)], photos[-(-len(photos) // 4) :]
    with torch.no_grad():
        expected = coder.decode(coder.encode(held_out))
    before = measure(coder, held_out, expected)
    teach(coder, photos, steps, generator)
    for off, likeness_db in (before, measure(coder, held_out, expected)):
        sys.stdout.write(f"plain colours off by {off:.1f} levels, photographs {likeness_db:.1f} dB\n")
    taught = {f"{AUTOENCODER_PREFIX}decoder.{key}": value for key, value in coder.decoder.state_dict().items()}
    tensors = {key: taught[key].to(value.dtype) if key in taught else value for key, value in file.tensors.items()}
    facts = {**file.facts, "plain_colours": {"steps": steps, "seed": generator.initial_seed()}}
    save_checkpoint(replace(file, tensors=tensors, facts=facts), out)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, default=embedded_weights())
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--photographs", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.photographs < 2:
        parser.error("--photographs must be at least 2: some to learn from, others to measure on")
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    photos = crop_photos(find_images([args.photos]), args.photographs, generator)
    teach_file(args.model, photos, args.out, args.steps, generator)


if __name__ == "__main__":
    main()
