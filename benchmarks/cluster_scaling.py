"""How a cluster's speed grows with its workers, and what the loss of one costs.

    python -m benchmarks.cluster_scaling [--workers 0,1,2,4,8,16] [--seconds 0.2] [--lost 8]
        [--photos 112] [--rows 160]

The cluster is simulated: nodes of one processor each on this machine. Pool, units and driver are the real ones, and
photographs are read, travel and are written. Only the networks are none: each evaluation of a tile sleeps as long as a
GPU would take, and what encoder and decoder would take of that is slept too. Sleepers share a processor; what is not
slept, Ray's own work too, 16 workers here share among so many processors as there are, of which a table's last column
tells how many were busy.

A tile is of 64 latent px, as the embedded model's, but a latent px is one px, not 8 x 8, and has 4 channels, so that
little is computed. It has two evaluations, and each stands for a batch's: 0.2 s are 8 tiles of 25 ms. `none`
workers are this process alone.
"""

import argparse
import contextlib
import io
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

from .simulated.pace import Pace, plan_folder, plan_job, side_px
from .simulated.rooms import Cluster, Lap, Room, simulate

COLUMNS = 4  # tiles across the large picture


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the command would tell."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def measure_scaling(args: argparse.Namespace, pace: Pace, folder: Path) -> None:
    """A folder and one picture by so many workers, and the loss of one."""
    jobs = plan_folder(folder, args.photos, pace.factor)
    large = plan_job(folder, "huge", (side_px(args.rows, pace.factor), side_px(COLUMNS, pace.factor)), in_bands=True)
    laps: dict[tuple[str, int], Lap] = {}
    lost: dict[str, Lap] = {}
    began = time.perf_counter()
    with simulate(max(args.workers)) as joined:
        print(f"{max(args.workers)} nodes after {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for count in args.workers:
            with quiet():
                room = Cluster(joined, count, pace, folder) if count else Room(pace)
            makers = {"folder": partial(room.make_folder, jobs), "picture": partial(room.make_picture, large)}
            for what, make in makers.items():
                with quiet():
                    laps[what, count] = make()
                print(what, count, laps[what, count], file=sys.stderr)
                if isinstance(room, Cluster) and count == args.lost:
                    timer = threading.Timer(laps[what, count].seconds / 2, room.kill_one)
                    timer.start()
                    with quiet():
                        lost[what] = make()
                    timer.join()
                    print(what, "lost", lost[what], file=sys.stderr)
            if isinstance(room, Cluster):
                room.close()
    print_laps(laps)
    for what, lap in lost.items():
        whole = laps[what, args.lost]
        print(
            f"\n{what}, one of {args.lost} workers killed halfway: {lap.seconds - whole.seconds:+.1f} s, "
            f"{lap.made - whole.made:+d} evaluations of {whole.made}"
        )


def print_laps(laps: Mapping[tuple[str, int], Lap]) -> None:
    """Efficiency is T1 / (N TN); of rows, it is that without the seconds in which the file was encoded."""
    print("| what | workers | s | efficiency | of rows | file, s | driver's processor, s | processors busy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for (what, count), lap in sorted(laps.items()):
        one, rows, each = laps.get((what, 1)), lap.seconds - lap.file, max(1, count)
        shares = (
            ("", "")
            if one is None
            else (f"{one.seconds / (each * lap.seconds):.3f}", f"{(one.seconds - one.file) / (each * rows):.3f}")
        )
        numbers = f"{lap.seconds:.1f} | {shares[0]} | {shares[1]} | {lap.file:.1f} | {lap.own:.1f} | {lap.busy:.2f}"
        print(f"| {what} | {count or 'none'} | {numbers} |")


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--workers", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2, 4, 8, 16]
    )
    parser.add_argument("--seconds", type=float, default=0.2, help="of one evaluation of a tile")
    parser.add_argument("--photos", type=int, default=112)
    parser.add_argument("--rows", type=int, default=160, help="of tiles, of the large picture")
    parser.add_argument("--lost", type=int, default=8, help="of how many workers one is lost")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure_scaling(args, Pace(args.seconds, log=folder / "evaluations"), folder)


if __name__ == "__main__":
    main()
