"""Stands in for `adadiffsr`: takes its words, writes weights as training does, and ends when its minutes do."""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

STEP_SECONDS = 0.1


def write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_bytes(content)
    partial.replace(path)


def weights_at(kind: str, step: int, size: int) -> bytes:
    """Content that names its step and cannot be compressed."""
    return f"{kind} {step} ".encode() + hashlib.shake_128(f"{kind}{step}".encode()).digest(size)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("train", choices=["train"])
    parser.add_argument("kind", choices=["autoencoder", "ldm"])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    for name in ("--device", "--config", "--autoencoder", "--init", "--threads"):
        parser.add_argument(name)
    parser.add_argument("--finish", action="store_true")
    parser.add_argument("--minutes", type=float, required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())
    fate = config.get("fate", "end")
    write_whole(args.run / "recipe.json", json.dumps({"task": {"batch_size": 8}}).encode())
    write_whole(args.run / "words.json", json.dumps([*sys.argv[1:], os.environ["PYTHONPATH"]]).encode())
    for given in filter(None, (args.autoencoder, args.init)):
        Path(given).read_bytes()
    if fate == "fail early":
        return 3
    end, step = time.monotonic() + args.minutes * 60, 0
    while time.monotonic() < end or fate == "hang":
        time.sleep(STEP_SECONDS)
        step += 1
        write_whole(args.run / "weights.safetensors", weights_at(args.kind, step, config.get("size", 1000)))
        sys.stderr.write(f"\r{args.kind}: 10%|# | {step}/900 [00:01<00:09, {1 / STEP_SECONDS}it/s, total=0.{step}]")
        sys.stderr.flush()
        if fate == "fail late" and step == 5:
            return 4
    sys.stdout.write(f"\n{args.run}: done after {step} steps\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
