"""The same picture whole, in bands, and by clusters of several workers: whether its files are the same, and the cost.

    python -m benchmarks.bands PHOTO [--crop 1024] [--workers 1,2,4] [--words "--uniform 6"] [--model FILE]

Every way is the command of its own, `adadiffsr upscale`, with one thread for each process that computes. Memory is the
highest of the command's own process; workers of a cluster have theirs beside it.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


def run_command(words: Sequence[str], out: Path) -> tuple[float, float]:
    """Seconds, and the most memory in MB.

    Raises:
        RuntimeError: the command refused.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    with out.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "adadiffsr_core.cli", "upscale", *words, "-o", str(out), "--threads", "1"],
            stdout=log,
            stderr=log,
            env=environment,
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(out.with_suffix(".log").read_text())
    return time.perf_counter() - began, usage.ru_maxrss / 1024


@contextmanager
def cluster_of(workers: int) -> Iterator[str]:
    """The address of a cluster on this machine with room for so many workers, whatever its processors."""
    from ray.cluster_utils import Cluster

    os.environ |= {"PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--crop", type=int, default=1024, help="px of the photograph, a square in its middle")
    parser.add_argument("--workers", default="1,2,4", help="of clusters, with commas between; empty for none")
    parser.add_argument("--words", default="", help="more words for the command")
    parser.add_argument("--model", type=Path)
    args = parser.parse_args()
    more = [*args.words.split(), *([] if args.model is None else ["--model", str(args.model)])]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photo.png"
        with Image.open(args.photo, formats=("PNG", "JPEG")) as photo:
            left, top = ((side - args.crop) // 2 for side in photo.size)
            photo.convert("RGB").crop((left, top, left + args.crop, top + args.crop)).save(source)
        print(f"{args.crop} x {args.crop} px, {' '.join(more) or 'everyday settings'}", flush=True)
        whole = report("whole", [str(source), "--bands", "never", *more], Path(folder) / "whole.png")
        report("bands", [str(source), "--bands", "always", *more], Path(folder) / "bands.png", whole)
        for count in (int(word) for word in args.workers.split(",") if word):
            with cluster_of(count) as address:
                words = [str(source), "--bands", "always", "--cluster", address, *more]
                report(f"{count} workers", words, Path(folder) / f"{count}.png", whole)


def report(name: str, words: Sequence[str], out: Path, whole: str = "") -> str:
    """Run a way, print what it took, and return a hash of its file."""
    seconds, memory = run_command(words, out)
    digest = hashlib.blake2b(out.read_bytes(), digest_size=8).hexdigest()
    same = "" if not whole else ", the same file" if digest == whole else ", ANOTHER FILE"
    print(f"{name:10} {seconds:7.1f} s  {memory:6.0f} MB  {digest}{same}", flush=True)
    return digest


if __name__ == "__main__":
    main()
