"""Crops that each network learns from in a second, by precision, threads, graphs and compilation.

    python -m benchmarks.training_speed [--device cpu|cuda] [--rounds 3] [--batch 8] [--px 256] [--compile]

Latents and pictures are random: what is timed is the networks' own work, forward, backward and update. Every round
times every way once; figures are medians, ratios are to the first way. Time is that of the GPU's own events, of this
process's work on one thread, or the wall clock's for several threads.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import adadiffsr_core.training
from adadiffsr_core.commands.options import choose_device
from adadiffsr_core.evaluation.stopwatch import Stopwatch
from adadiffsr_core.models.processor import Processor
from adadiffsr_core.nets.autoencoder import Autoencoder, AutoencoderConfig
from adadiffsr_core.nets.unet import UNet, UNetConfig
from adadiffsr_core.training.loop.config import LoopConfig
from adadiffsr_core.training.loop.optimiser import Optimiser

RECIPES = Path(adadiffsr_core.training.__file__).parent / "configs"


@dataclass(frozen=True)
class Way:
    """How to train.

    Attributes:
        threads: of the processor.
        bfloat16, compiles: as in `Processor`.
        records: whether a UNet on a GPU is replayed as graphs.
    """

    threads: int
    bfloat16: bool
    compiles: bool = False
    records: bool = False

    def __str__(self) -> str:
        words = [f"{self.threads} thread{'s' * (self.threads > 1)}", "bfloat16" if self.bfloat16 else "float32"]
        return ", ".join([*words, *(["compiled"] if self.compiles else []), *(["as graphs"] if self.records else [])])


def shipped(kind: str) -> dict[str, Any]:
    """The section `net` of a shipped recipe."""
    values: dict[str, Any] = json.loads((RECIPES / f"{kind}.json").read_text(encoding="utf-8"))["net"]
    return values


def networks() -> dict[str, Callable[[], Autoencoder | UNet]]:
    """The embedded model's, and those of the recipes."""
    first = AutoencoderConfig(encoder_blocks=(2, 3), decoder_blocks=(5, 4))
    return {
        "autoencoder, embedded": lambda: Autoencoder(first),
        "autoencoder, recipe": lambda: Autoencoder(AutoencoderConfig.from_dict(shipped("autoencoder"))),
        "UNet, embedded": lambda: UNet(UNetConfig(num_res_blocks=1)),
        "UNet, recipe": lambda: UNet(UNetConfig.from_dict(shipped("ldm"))),
    }


def build_step(
    net: Autoencoder | UNet, processor: Processor, batch: int, px: int, records: bool = False
) -> Callable[[], None]:
    """A function that trains the network for one step on a batch of crops, a UNet as graphs if it is to be."""
    if isinstance(net, Autoencoder):
        parts = [processor.install(net.encoder), processor.install(net.decoder)]
        image = torch.rand(batch, 3, px, px, device=processor.device)

        def forward() -> Tensor:
            return (net.decode(net.encode(image)).float() - image).abs().mean()
    else:
        parts = [processor.install(net)]
        channels, side = net.config.in_channels, px // 8
        x = torch.randn(batch, channels, side, side, device=processor.device)
        x = x.contiguous(memory_format=torch.channels_last)
        timesteps = torch.randint(1000, (batch,), device=processor.device)
        if records:
            processor.record(net, x, timesteps)

        def forward() -> Tensor:
            return net(x, timesteps).float().square().mean()

    optimiser = Optimiser((weight for part in parts for weight in part.parameters()), LoopConfig())

    def step() -> None:
        optimiser.drop_gradients()
        with processor.autocast():
            loss = forward()
        loss.backward()
        optimiser.step(1e-4)

    return step


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(step: Callable[[], None], way: Way, batch: int, steps: int, device: torch.device) -> float:
    """Crops a second."""
    with threads(way.threads):
        watch, began = Stopwatch(device), time.perf_counter()
        for _ in range(steps):
            step()
        by_wall = device.type == "cpu" and way.threads > 1
        return batch * steps / (time.perf_counter() - began if by_wall else watch.read())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1, help="in each round")
    parser.add_argument("--px", type=int, default=256, help="side of a crop")
    parser.add_argument("--compile", action="store_true", help="try torch.compile too")
    parser.add_argument("--slow", action="store_true", help="bfloat16 too where the device is not built for it")
    args = parser.parse_args()
    device = choose_device(args.device)
    counts = [1, 2] if device.type == "cpu" else [1]
    precisions = [False, True] if args.slow or Processor.open(device).bfloat16 else [False]
    compiled = [False, True] if args.compile else [False]
    ways = [Way(count, bf, comp) for comp in compiled for bf in precisions for count in counts]
    if device.type == "cuda":
        ways.append(Way(1, True, records=True))
    print(f"| network | way | crops of {args.px} px a second | ratio |\n| --- | --- | ---: | ---: |")
    for name, build in networks().items():
        steps = {
            way: build_step(build(), Processor(device, way.bfloat16, way.compiles), args.batch, args.px, way.records)
            for way in ways
        }
        for way, step in steps.items():
            measure(step, way, args.batch, 1, device)  # compiles, and takes memory
        rates: dict[Way, list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds):
            for way, step in steps.items():
                rates[way].append(measure(step, way, args.batch, args.steps, device))
        first = statistics.median(rates[ways[0]])
        for way in ways:
            rate = statistics.median(rates[way])
            print(f"| {name} | {way} | {rate:.1f} | {rate / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
