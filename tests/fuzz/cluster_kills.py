"""Workers and drivers of a cluster killed at random moments: `python -m tests.fuzz.cluster_kills`.

`upscale --cluster local` on small pictures, with a worker for each processor. Workers are killed while they work, and
the command itself, which is then begun again. In the end every picture must be there, written once, none of them ever
half-written, and equal to the bit to what the command makes by itself.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.kills import contents, half_written, start


def prepare(folder, count, seed):
    """Weights and photographs."""
    from tests.fuzz import words

    words.prepare(folder)
    rng = np.random.default_rng(seed)
    (folder / "in").mkdir()
    for number in range(count):
        height, width = rng.integers(8, 20, 2)
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "in" / f"{number:03}.png")


def sound_words(folder, out):
    """Of the command, without a cluster."""
    weights = ["--model", str(folder / "bundle.safetensors"), "--steps", "4", "--scale", "2", "--threads", "1"]
    return ["upscale", str(folder / "in"), "-o", f"{out}/", "--report", f"{out}/", "--map", f"{out}/", *weights]


def find_workers(driver):
    """Process ids of a driver's workers that have begun: Ray names them by what they do."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            names[int(path.name)] = (path / "cmdline").read_bytes()
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    family = {driver}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(pid for pid in family if names.get(pid, b"").startswith(b"ray::Worker"))


def is_written(out, wanted):
    """Whether so many pictures are told to be there."""
    return len(told_finished(out)) >= wanted


def told_finished(out):
    """Results that the journal says are there, as often as it says so."""
    journal = out / ".adadiffsr.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue  # cut by the kill
    return [entry["result"] for entry in entries if "bytes" in entry]


def run_once(words, out, rng, kills, stop_at):
    """One driver: kill so many of its workers, and itself when so many pictures are there; None lets it end.

    Returns its code, what it said, the workers that were killed, and what was half-written.
    """
    process, said, killed, faults = start(words), {}, 0, []
    reader = threading.Thread(target=lambda: said.update(zip(("out", "err"), process.communicate(), strict=True)))
    reader.start()
    begun = len(told_finished(out))
    while process.poll() is None:
        if stop_at is not None and is_written(out, stop_at):
            process.send_signal(signal.SIGKILL)
            break
        # Spread over the run: each only when a few more pictures are there than at the last.
        if killed < kills and is_written(out, begun + 2) and (workers := find_workers(process.pid)):
            time.sleep(rng.uniform(0, 1))
            try:
                os.kill(rng.choice(workers), signal.SIGKILL)
                killed, begun = killed + 1, len(told_finished(out))
            except ProcessLookupError:
                pass
        time.sleep(0.2)
    reader.join()
    faults += [f"{name} is half-written" for name in half_written(out)]
    return process.returncode, said, killed, faults


def main():
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="pictures")
    parser.add_argument("--workers", type=int, default=10, help="killed")
    parser.add_argument("--drivers", type=int, default=2, help="killed")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, faults, killed, drivers = random.Random(args.seed), [], 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args.count, args.seed)
        began, process = time.monotonic(), start(sound_words(folder, folder / "one"))
        _, said = process.communicate()
        sys.stdout.write(f"alone: code {process.returncode}, {time.monotonic() - began:.0f} s\n")
        wanted, out = contents(folder / "one"), folder / "two"
        stops = sorted(rng.sample(range(args.count // 10, args.count - args.count // 10), args.drivers))
        each = -(-args.workers // (args.drivers + 1))
        for stop_at in (*stops, None):
            kills = min(each, args.workers - killed) if stop_at is not None else args.workers - killed
            began = time.monotonic()
            words = [*sound_words(folder, out), "--cluster", "local"]
            code, said, dead, found = run_once(words, out, rng, kills, stop_at)
            killed, drivers = killed + dead, drivers + (code == -signal.SIGKILL)
            faults += found
            there = len(told_finished(out))
            sys.stdout.write(
                f"{time.monotonic() - began:.0f} s, {dead} workers killed, code {code}, {there} pictures are there\n"
            )
            sys.stdout.flush()
            if stop_at is None and (code or b"Traceback" in said["err"] or b"raylet" in said["out"] + said["err"]):
                faults.append(f"code {code}: {said['err'][-500:]!r}")
        told, made = told_finished(out), contents(out)
        faults += [f"{name} was written {told.count(name)} times" for name in set(told) if told.count(name) > 1]
        faults += [f"{file} differs or is missing" for file in wanted if made.get(file) != wanted[file]]
        faults += [f"{file} is not wanted" for file in made if file not in wanted]
        if len(told) != args.count or killed < args.workers or drivers < args.drivers:
            faults.append(f"{len(told)} pictures, {killed} workers and {drivers} drivers were killed")
    sys.stdout.write("".join(f"{fault}\n" for fault in faults))
    sys.stdout.write(f"{len(told)} pictures, {killed} workers and {drivers} drivers killed, {len(faults)} faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
