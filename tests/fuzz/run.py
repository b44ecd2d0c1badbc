"""The long run: `python -m tests.fuzz.run`, 20,000 damaged files in processes of their own.

With COMFYUI_DIR set, `--subjects host` tries ComfyUI's loader too.
"""

import argparse
import collections
import logging
import multiprocessing
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path

SHARES = {"bundle": 0.35, "state": 0.25, "cache": 0.1, "picture": 0.3}
_CHUNK = 500  # cases of one process
_SPARE = 6 * 2**30  # address space beyond which a case fails rather than the machine


def work(job):
    """The verdicts of these cases of one subject."""
    name, seed, numbers = job
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    if name == "picture":  # of which decoders in C say what they think, past Python
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    import torch

    from tests.fuzz.judge import try_case
    from tests.fuzz.subjects import SUBJECTS, start_host

    if name == "host":
        start_host(os.environ["COMFYUI_DIR"])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        subject = SUBJECTS[name](Path(folder))
        sound = subject.path.read_bytes()
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE, -1))
        return name, [try_case(subject, sound, seed, number) for number in numbers]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--subjects", nargs="+", default=list(SHARES))
    args = parser.parse_args()
    total = sum(SHARES.get(name, 1) for name in args.subjects)
    jobs = []
    for name in args.subjects:
        numbers = list(range(round(args.count * SHARES.get(name, 1) / total)))
        jobs += [(name, args.seed, numbers[start : start + _CHUNK]) for start in range(0, len(numbers), _CHUNK)]
    faults, counts = collections.Counter(), collections.Counter()
    with multiprocessing.get_context("spawn").Pool(args.processes, maxtasksperchild=1) as pool:
        for name, verdicts in pool.imap_unordered(work, jobs):
            for verdict in verdicts:
                counts[name, "refused" if verdict.refused else "opened"] += 1
                if verdict.fault:
                    faults[name] += 1
                    print(name, verdict.case, verdict.fault.replace("\n", " ")[:200], flush=True)  # noqa: T201
    print({f"{name} {what}": count for (name, what), count in counts.items()}, "faults:", dict(faults))  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
