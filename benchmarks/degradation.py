"""Training pairs per second: of the batched degradation on a device, and of the single one on the CPU, in turn.

    python -m benchmarks.degradation [--device cuda] [--batch 64] [--size 256] [--scales 4 4] [--photos DIR]

Every round times both in one process: crops drawn from photographs, degraded and brought back to their size. Then a
table says what each stage of the batched one takes, and, counted on the `meta` device, its products and the bytes
that its operations read and write if none are fused (a Fourier transform counts once, and takes two or three passes).
Those bytes over the device's bandwidth are the least time per crop. `--device meta` only counts.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from adadiffsr_core.data.dataset import PairConfig, PairDataset
from adadiffsr_core.data.degradation import batch as degradation_batch
from adadiffsr_core.data.degradation.single import DegradationConfig
from adadiffsr_core.data.photo_bank import PhotoBank
from adadiffsr_core.data.photo_files import find_images
from adadiffsr_core.models.processor import Processor

STAGES = ("blur_batch", "resize_stage", "add_noise_batch", "compress_batch", "enlarge")
H100_BYTES = 3.35e12  # per second, of the SXM card's data sheet
MIN_SCALE = PairConfig().min_scale


class TrafficMode(TorchDispatchMode):
    """Counts operations, and the bytes of what they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.calls = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        is_view = any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        if not is_view:
            self.calls += 1
            # what is written in place is among both, as it should be
            self.bytes += sum(held_bytes(leaf) for leaf in tree_leaves((args, kwargs, results)))
        return results


def held_bytes(value: object) -> int:
    """Of a tensor, each number once however often it is repeated by a stride of zero."""
    if not isinstance(value, Tensor):
        return 0
    count = 1
    for size, stride in zip(value.shape, value.stride(), strict=True):
        count *= size if stride else 1
    return count * value.element_size()


class Pairs:
    """The batched pipeline as training uses it."""

    def __init__(self, args: argparse.Namespace, device: str, paths: list[Path]) -> None:
        self.args, self.processor = args, Processor.open(torch.device(device))
        self.bank = PhotoBank.read(paths, self.processor)
        self.degradation = degradation_batch.BatchDegradation(
            DegradationConfig(), DegradationConfig.mild(), PairConfig().mild_prob, tuple(args.scales), self.processor
        )

    def photographs(self, step: int) -> Tensor:
        """A batch of crops."""
        return self.bank.draw(self.args.batch, self.args.size, MIN_SCALE, self.processor.generator(0, step))

    def draws(self, step: int) -> degradation_batch.Draws:
        """What is drawn for it."""
        return self.degradation.draw(self.args.batch, self.args.size, 0, step)

    def pairs(self, step: int) -> Tensor:
        """Crops degraded."""
        return self.degradation(self.photographs(step), self.draws(step))


@contextmanager
def watched(pairs: Pairs, watch: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """Every stage is replaced by `watch(name, stage)`."""
    with ExitStack() as stack:
        for name in STAGES:
            stage = getattr(degradation_batch, name)
            stack.enter_context(mock.patch.object(degradation_batch, name, watch(name, stage)))
        for name in ("photographs", "draws"):
            stack.enter_context(mock.patch.object(pairs, name, watch(name, getattr(pairs, name))))
        yield


def count_stages(pairs: Pairs) -> dict[str, tuple[int, int, int]]:
    """Name -> products (flops), bytes and operations of one batch; `all` includes what is in no stage."""
    counts: dict[str, tuple[int, int, int]] = defaultdict(lambda: (0, 0, 0))

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with FlopCounterMode(display=False) as flops, TrafficMode() as traffic:
                result = function(*args, **kwargs)
            new = flops.get_total_flops(), traffic.bytes, traffic.calls
            counts[name] = tuple(a + b for a, b in zip(counts[name], new, strict=True))
            return result

        return call

    with watched(pairs, counted):
        pairs.pairs(0)
    counted("all", pairs.pairs)(0)
    return dict(counts)


def time_stages(pairs: Pairs, steps: int) -> dict[str, float]:
    """Name -> seconds of one batch; `all` includes what is in no stage."""
    spans: list[tuple[str, Any, Any]] = []
    mark = cuda_mark if pairs.processor.device.type == "cuda" else time.perf_counter

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            begun = mark()
            result = function(*args, **kwargs)
            spans.append((name, begun, mark()))
            return result

        return call

    with watched(pairs, timed):
        for step in range(steps):
            timed("all", pairs.pairs)(step)
    pairs.processor.synchronize()
    seconds: dict[str, float] = defaultdict(float)
    for name, begun, ended in spans:
        seconds[name] += span(begun, ended) / steps
    return dict(seconds)


def cuda_mark() -> torch.cuda.Event:
    """A point on the device's own time line."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def span(begun: Any, ended: Any) -> float:
    """Seconds between two marks."""
    return begun.elapsed_time(ended) / 1000 if isinstance(begun, torch.cuda.Event) else ended - begun


def rate_batched(pairs: Pairs, batches: int) -> float:
    """Crops per second, the wait for the device included."""
    pairs.processor.synchronize()
    began = time.perf_counter()
    for step in range(batches):
        pairs.pairs(step)
    pairs.processor.synchronize()
    return batches * pairs.args.batch / (time.perf_counter() - began)


def rate_single(dataset: PairDataset, first: int, count: int) -> float:
    """Crops per second of one process."""
    began = time.perf_counter()
    for index in range(first, first + count):
        dataset[index]
    return count / (time.perf_counter() - began)


def compare(pairs: Pairs, paths: list[Path], args: argparse.Namespace) -> dict[str, float]:
    """Medians of both rates and of their ratio."""
    dataset = PairDataset(paths, PairConfig(size_px=args.size), seed=0, length=args.rounds * args.single + args.single)
    rate_batched(pairs, 2)
    rate_single(dataset, args.rounds * args.single, args.single)
    rounds = [
        (rate_batched(pairs, args.batches), rate_single(dataset, i * args.single, args.single))
        for i in range(args.rounds)
    ]
    batched, single = zip(*rounds, strict=True)
    ratios = [one / other for one, other in rounds]
    return {
        "batched": statistics.median(batched),
        "single": statistics.median(single),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def print_stages(counts: dict[str, tuple[int, int, int]], seconds: dict[str, float], batch: int) -> None:
    """One row for each stage."""
    print("\n| stage | ms per crop | share | MB per crop | GFLOP per crop | operations per batch |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, (flops, traffic, calls) in counts.items():
        spent = f"{1000 * seconds[name] / batch:.3f} | {seconds[name] / seconds['all']:.0%}" if seconds else "- | -"
        print(f"| {name} | {spent} | {traffic / batch / 1e6:.1f} | {flops / batch / 1e9:.3f} | {calls} |")
    limit = H100_BYTES / (counts["all"][1] / batch)
    print(f"\nAt {H100_BYTES / 1e12:.2f} TB/s, an H100's, those bytes allow {limit:.0f} crops per second.")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda", "meta"], default="cpu")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--scales", type=float, nargs=2, default=(4.0, 4.0))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=10, help="batches of the pipeline in each round")
    parser.add_argument("--single", type=int, default=32, help="crops of the single pipeline in each round")
    parser.add_argument("--threads", type=int, help="processor threads; all cores if not given")
    parser.add_argument("--photos", type=Path, default=Path("photos"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    paths = find_images([args.photos])
    counts, seconds, rates = count_stages(Pairs(args, "meta", paths)), {}, {}
    if args.device != "meta":
        pairs = Pairs(args, args.device, paths)
        rates = compare(pairs, paths, args)
        seconds = time_stages(pairs, args.batches)
        print(f"batched {rates['batched']:.1f} crops/s, single {rates['single']:.1f} crops/s in one process, ratio "
              f"{rates['ratio']:.2f} ({rates['ratio_min']:.2f} to {rates['ratio_max']:.2f})")  # fmt: skip
    if args.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    print_stages(counts, seconds, args.batch)
    if args.out:
        args.out.write_text(json.dumps({"rates": rates, "seconds": seconds, "counts": counts}, indent=1))


if __name__ == "__main__":
    main()
