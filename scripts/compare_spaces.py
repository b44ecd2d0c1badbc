"""Which latent space diffuses best, and whether picture or residual should be denoised: one UNet for each.

    python -m scripts.compare_spaces PHOTOS RUN --autoencoder-minutes 20 (--minutes 120 | --steps 4000)
        [--space "16, free=FILE"] [--taesd FOLDER] [--taesd3 FOLDER] [--inputs FOLDER] [--ways "16, free: residual" ...]

Trains an autoencoder for every space (or takes the one that is named) and then, for the same minutes or steps each,
the same UNet in it, all in one process. Spaces of a teacher are left out where there is neither its folder nor an
autoencoder. Each training goes on where it was stopped. `RUN/table.md` has what the last check of each found on the
same held-out photographs; `RUN/pictures/WAY` has what it makes of every picture in `--inputs`, enlarged beforehand, in
24 steps.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from adadiffsr_core.commands.options import choose_device, set_threads
from adadiffsr_core.commands.train.autoencoder import begin_with
from adadiffsr_core.data.dataset import PairConfig, PairDataset, split_photos
from adadiffsr_core.data.latent_pairs import CHUNK, PairEncoder, build_latent_pairs
from adadiffsr_core.data.pair_source import ENDLESS, DevicePairs, LivePairs, PairSource, RenewedPairs, Window
from adadiffsr_core.data.photo_bank import PhotoBank
from adadiffsr_core.data.photo_files import find_images, keep_sound, load_image
from adadiffsr_core.models.checkpoint import load_checkpoint
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder
from adadiffsr_core.sampling.schedule import Target
from adadiffsr_core.training.loop.config import LoopConfig
from adadiffsr_core.training.loop.loop import Run
from adadiffsr_core.training.recipe import AutoencoderRecipe, LdmRecipe, read_recipe
from adadiffsr_core.training.tasks.autoencoder import AutoencoderTask
from adadiffsr_core.training.tasks.ldm import LdmTask, Watched, load_autoencoder
from adadiffsr_core.training.tasks.setup import Examples, TaskSetup
from adadiffsr_core.training.tasks.taesd import Taesd

RARELY = 10**9
SEED = 0
HELD_OUT, SHOWN = 64, 12
STEPS = 24  # of restoring what is in --inputs


@dataclass(frozen=True)
class Space:
    """A latent space.

    Attributes:
        channels: of its latents.
        teacher: the option that names the folder of its teacher, or None for a free space.
    """

    channels: int
    teacher: str | None = None


@dataclass(frozen=True)
class Way:
    """What a UNet is trained for.

    Attributes:
        space: a name of `SPACES`.
        target, snr_gamma: as in `LdmTaskConfig`.
    """

    space: str
    target: Target
    snr_gamma: float | None = None

    def __str__(self) -> str:
        weighting = "" if self.snr_gamma is None else f", min-SNR {self.snr_gamma:g}"
        return f"{self.space}: {self.target}{weighting}"

    @property
    def folder(self) -> str:
        """Its name as a path."""
        return folder_name(str(self))


def folder_name(words: str) -> str:
    """Words as a path."""
    return "".join(letter if letter.isalnum() else "-" for letter in words).replace("--", "-")


SPACES = {
    "4, SD 1's": Space(4, "taesd"),
    "8, free": Space(8),
    "16, free": Space(16),
    "16, SD 3's": Space(16, "taesd3"),
}
WAYS = [Way(space, target) for space in SPACES for target in get_args(Target)]
WAYS.append(Way("16, free", "residual", 5.0))


class Comparison:
    """Trainings that share photographs and settings."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.run = args, args.run
        self._autoencoders: dict[str, Autoencoder | None] = {}
        set_threads(args.threads)
        self.processor = Processor.open(choose_device(args.device), compiles=args.compile)
        self.setup = TaskSetup(self.processor, SEED)
        split = split_photos(keep_sound(find_images([args.photos]), logging.warning), 0.05)
        self.paths = split.train
        self.photos, self.held_out = (
            PhotoBank.open(paths, self.run / f"{name}.safetensors", self.processor)
            for name, paths in (("photographs", split.train), ("held_out", split.held_out))
        )
        self.data = PairConfig(size_px=args.size_px, scales=(4.0, 4.0))
        self.measured = PairDataset(split.held_out, self.data, SEED + 1, HELD_OUT)
        shown = [self.measured[index] for index in range(SHOWN)]
        self.watched = Watched(torch.stack([gt for gt, _ in shown]), torch.stack([lq for _, lq in shown]))
        self.inputs = dict(read_inputs(args.inputs)) if args.inputs is not None else {}

    def loop(self, minutes: float | None, **more: object) -> LoopConfig:
        """A training that is measured when it is over; without minutes `more` says its steps."""
        fixed = {"check_every": RARELY, "save_every": RARELY, "check_at_end": True, "decay_share": 0.4}
        return LoopConfig.from_dict({"steps": None, "minutes": minutes, "seed": SEED, **fixed, **more})

    def autoencoder(self, name: str) -> Autoencoder | None:
        """That of a space, given or trained, made once; None where its teacher is not at hand."""
        if name not in self._autoencoders:
            self._autoencoders[name] = self._find_autoencoder(name)
        return self._autoencoders[name]

    def _find_autoencoder(self, name: str) -> Autoencoder | None:
        given = dict(words.split("=", 1) for words in self.args.space)
        if name in given:
            return self.processor.install(load_autoencoder(Path(given[name])))
        space = SPACES[name]
        folder: Path | None = None
        if space.teacher is not None and (folder := getattr(self.args, space.teacher)) is None:
            return None
        changes, config = {"z_channels": space.channels}, self.args.autoencoder_config
        recipe = AutoencoderRecipe.from_dict(read_recipe("autoencoder", config, {}, {}, net=changes))
        teacher = None if folder is None else Taesd(folder)
        task = AutoencoderTask(recipe.net, recipe.task, Examples(self.photos, self.held_out), self.setup, teacher)
        if self.args.init is not None:
            begin_with(task.networks["autoencoder"], load_checkpoint(self.args.init, "autoencoder"))
        path = self.run / folder_name(f"{name}: autoencoder")
        loop = self.loop(self.args.autoencoder_minutes, learning_rate=recipe.loop.learning_rate, warmup_steps=300)
        Run(task, loop, path).train()
        return self.processor.install(load_autoencoder(path / "weights.safetensors"))

    def train(self, way: Way) -> dict[str, float] | None:
        """The UNet of a way; what its last check found, its steps and the time of one."""
        coder = self.autoencoder(way.space)
        if coder is None:
            return None
        channels = coder.config.z_channels
        values = read_recipe("ldm", self.args.unet, {}, {}, net={"in_channels": 2 * channels, "out_channels": channels})
        recipe = LdmRecipe.from_dict(values)
        config = replace(recipe.task, target=way.target, snr_gamma=way.snr_gamma, batch_size=self.args.pairs)
        encoder = PairEncoder(coder, self.processor)
        pairs = self._train_pairs(way.space, encoder, recipe.renewal)
        folder = self.run / "pairs" / folder_name(f"{way.space}: pairs")
        held_out = build_latent_pairs(folder, self.measured, encoder, self.args.workers)
        task = LdmTask(recipe.net, config, coder, Examples(pairs, held_out), self.watched, self.setup)
        if self.args.unseen:
            hide_condition(task.networks["unet"], channels)
        rate = {"learning_rate": self.args.learning_rate, "warmup_steps": 100}
        loop = self.loop(self.args.minutes, steps=self.args.steps, **rate)
        run = Run(task, loop, self.run / way.folder)
        run.train()
        self.restore(way, task, run)
        checks = [row for row in run.history if "check.psnr" in row]
        return {"steps": run.step, **checks[-1]}

    def _train_pairs(self, space: str, encoder: PairEncoder, renewal: float) -> PairSource:
        """What a UNet learns from: made on a GPU, or, as `train ldm` has it, kept on disk for all ways of a space."""
        length = self.args.window
        if self.processor.device.type == "cuda":
            live = LivePairs(self.photos, encoder, self.data, SEED)
            return DevicePairs(live, Window(length, min(256, length), renewal), SEED)
        folder = self.run / "pairs" / folder_name(f"{space}: window")
        endless = PairDataset(self.paths, self.data, SEED, ENDLESS)
        return RenewedPairs(folder, endless, encoder, Window(length, CHUNK, renewal), SEED, self.args.workers)

    @torch.no_grad()
    def restore(self, way: Way, task: LdmTask, run: Run) -> None:
        """What the averaged weights make of the inputs."""
        folder = self.run / "pictures" / way.folder
        folder.mkdir(parents=True, exist_ok=True)
        run.average.eval()
        for name, picture in self.inputs.items():
            shown = self.processor.place(picture).float().div(255)[None]
            made = task.restore(run.average, shown, STEPS)[0]
            levels = made.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
            Image.fromarray(levels).save(folder / f"{name}.png")


def hide_condition(unet: nn.Module, channels: int) -> None:
    """Let a UNet never see the condition, as an ordinary checkpoint does not: its weights are 0 and stay so.

    Args:
        unet: whose first layer takes `channels` of the noisy latent, then the condition's.
        channels: of a latent.
    """
    weight = next(unet.get_submodule("input_blocks.0").parameters())
    seen = torch.zeros_like(weight)
    seen[:, :channels] = 1
    with torch.no_grad():
        weight.mul_(seen)
    cast(Any, weight).register_hook(lambda gradient: gradient * seen)


def read_inputs(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Pictures by name, uint8 `[3,H,W]`, cut to what every network here takes."""
    for path in find_images([folder]):
        picture = load_image(path)
        height, width = (side // 64 * 64 for side in picture.shape[:2])
        yield path.stem, torch.from_numpy(np.ascontiguousarray(picture[:height, :width].transpose(2, 0, 1)))


def main() -> None:
    """Train what can be trained, and write the table."""
    names = {str(way): way for way in WAYS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--autoencoder-minutes", type=float, required=True, help="training time of each that is not given"
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float, help="training time of every UNet")
    length.add_argument("--steps", type=int, help="training steps of every UNet")
    parser.add_argument("--unet", type=Path, metavar="JSON", help="what differs from the diffusion model's recipe")
    parser.add_argument("--size-px", type=int, default=256, help="side of the crops")
    parser.add_argument("--ways", nargs="+", choices=names, default=list(names), metavar="WAY", help="(all)")
    parser.add_argument("--space", action="append", default=[], metavar="NAME=FILE", help="a space's autoencoder")
    parser.add_argument("--init", type=Path, metavar="FILE", help="an autoencoder that the trained ones begin with")
    parser.add_argument("--autoencoder-config", type=Path, metavar="JSON", help="what differs from its recipe")
    parser.add_argument("--taesd", type=Path, metavar="FOLDER")
    parser.add_argument("--taesd3", type=Path, metavar="FOLDER")
    parser.add_argument("--inputs", type=Path, metavar="FOLDER", help="pictures to restore, at their result's size")
    parser.add_argument("--pairs", type=int, default=32, help="batch of the UNets")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="learning rate of the UNets")
    parser.add_argument("--window", type=int, default=2048, help="pairs kept at a time")
    parser.add_argument("--unseen", action="store_true", help="do not show the UNets the low-quality picture")
    parser.add_argument("--device")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    comparison = Comparison(args)
    rows = ["| latents: denoised | steps | PSNR | ST-LPIPS |", "| --- | ---: | ---: | ---: |"]
    for name in args.ways:
        found = comparison.train(names[name])
        if found is None:
            continue
        perceptual = found.get("check.st_lpips", float("nan"))
        rows.append(f"| {name} | {found['steps']:.0f} | {found['check.psnr']:.2f} | {perceptual:.3f} |")
        (args.run / "table.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
        sys.stdout.write(rows[-1] + "\n")


if __name__ == "__main__":
    main()
