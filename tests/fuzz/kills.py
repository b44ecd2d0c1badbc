"""Commands killed at random moments: `python -m tests.fuzz.kills --count 100`.

`upscale`, two trainings and `eval` are stopped by KILL, TERM or Ctrl-C, as often as it takes, and begun again until
they end. Nothing may ever be half-written; what was finished must stay; after Ctrl-C the code is 130 and one sentence
is said; and what is there in the end must be, to the bit, what a run makes that nobody stopped.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import safe_open

SIGNALS = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "INT": signal.SIGINT}
_MOST_TRIES = 12


def sound_commands(folder, out):
    """Name -> words; results go to `out`."""
    from tests.fuzz import words

    commands = words.sound_commands(folder, folder / "bundle.safetensors")
    many = [str(folder / "many"), "--output", f"{out}/", "--report", f"{out}/reports/", "--map", f"{out}/maps/"]
    result = {"upscale": ["upscale", *many, "--model", str(folder / "bundle.safetensors"), "--threads", "1"]}
    sets = [f"a={folder / 'many'}:{folder / 'truth'}", "--model", str(folder / "bundle.safetensors")]
    tables = ["--metrics", "psnr,ssim", "--tables", "1,4", "--threads", "1"]
    result["eval"] = ["eval", "--out", str(out), "--pairs", *sets, *tables]
    for name in ("train autoencoder", "train ldm"):
        given, recipe = commands[name]
        recipe = json.loads(json.dumps(recipe))
        recipe["loop"] |= {"steps": 12, "save_every": 2, "check_every": 6, "log_every": 1}
        path = folder / f"{name}.json"
        path.write_text(json.dumps(recipe), encoding="utf-8")
        given = [str(out / "run") if word == str(folder / "out" / "run") else word for word in given]
        del given[given.index("--steps") : given.index("--steps") + 2]
        result[name] = [*given, "--config", str(path)]
    return result


def prepare(folder):
    """Weights and photographs."""
    from tests.fuzz import words

    words.prepare(folder)
    rng = np.random.default_rng(1)
    for name, side in (("many", 24), ("truth", 96)):
        (folder / name).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def start(words):
    """The command as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "adadiffsr_core.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def finished(out):
    """Files by name, but those that are being written."""
    return {
        str(path.relative_to(out)): path for path in sorted(out.rglob("*")) if path.is_file() and not _is_partial(path)
    }


def _is_partial(path):
    return path.name.startswith(".")


def half_written(out):
    """Names of files that cannot be read."""
    return [name for name, path in finished(out).items() if not _is_whole(path)]


def _is_whole(path):
    try:
        if path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                for key in file.keys():  # noqa: SIM118
                    file.get_tensor(key)
        elif path.suffix == ".npy":
            np.load(path, mmap_mode="r")
    except Exception:
        return False
    return True


def contents(out):
    """What must be the same however often a run was stopped: not times, nor charts of them."""
    found = {}
    for name, path in finished(out).items():
        if path.suffix == ".json":
            text = path.read_text(encoding="utf-8").replace(str(out), "OUT")
            found[name] = _without_times(json.loads(text))
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                found[name] = {key: file.get_tensor(key).tobytes() for key in file.keys()}  # noqa: SIM118
        elif path.suffix == ".csv":
            lines = path.read_text(encoding="utf-8").splitlines()
            found[name] = [line for line in lines if "seconds" not in line]
        elif path.suffix in (".png", ".npy") and "losses" not in name:
            found[name] = path.read_bytes()
    return found


def _without_times(value):
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if "second" not in key}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def try_kills(name, words, out, seconds, seed, tries):
    """Stop and begin again; returns how often it was stopped, and what was wrong."""
    rng, faults, kills = random.Random(seed), [], 0
    while kills < tries:
        process, kind = start(words), rng.choice(list(SIGNALS))
        before = {file: path.stat().st_mtime_ns for file, path in finished(out).items()} if out.exists() else {}
        try:
            process.communicate(timeout=rng.uniform(0.0, seconds))
            if process.returncode:
                faults.append(f"{name}: code {process.returncode}")
            break
        except subprocess.TimeoutExpired:
            process.send_signal(SIGNALS[kind])
        _, said = process.communicate()
        kills += 1
        faults += [f"{name}: {file} is half-written after {kind}" for file in half_written(out)]
        faults += [f"{name}: {file} is gone after {kind}" for file in before if not (out / file).exists()]
        if kind == "INT" and process.returncode not in (0, 130):
            faults.append(f"{name}: code {process.returncode} after Ctrl-C: {said[-200:]!r}")
        if kind == "INT" and b"Traceback" in said:
            faults.append(f"{name}: a traceback after Ctrl-C: {said[-300:]!r}")
    process = start(words)
    _, said = process.communicate()
    if process.returncode:
        faults.append(f"{name}: code {process.returncode} when begun again: {said[-300:]!r}")
    return kills, faults


def main():
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    faults, kills = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        straight, seconds = {}, {}
        for command in ("upscale", "eval", "train autoencoder", "train ldm"):
            out = folder / "straight" / command
            begun, process = time.monotonic(), start(sound_commands(folder, out)[command])
            _, said = process.communicate()
            seconds[command] = time.monotonic() - begun
            straight[command] = contents(out)
            if process.returncode or not straight[command]:
                faults.append(f"{command}: code {process.returncode}: {said[-300:]!r}")
        number = 0
        while kills < args.count and not faults:
            command = list(straight)[number % len(straight)]
            out = folder / "stopped" / command
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            words = sound_commands(folder, out)[command]
            stopped, found = try_kills(command, words, out, seconds[command], args.seed + number, _MOST_TRIES)
            kills, number = kills + stopped, number + 1
            faults += found
            made, wanted = contents(out), straight[command]
            for file in wanted:
                if made.get(file) != wanted[file]:
                    faults.append(f"{command}: {file} differs: {made.get(file)!r:.500} for {wanted[file]!r:.500}")
            sys.stdout.write(f"{kills} kills, {command} stopped {stopped} times\n")
            sys.stdout.flush()
    sys.stdout.write("".join(f"{fault}\n" for fault in faults) + f"{kills} kills, {len(faults)} faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
