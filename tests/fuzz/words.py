"""Hostile words on the command line, and hostile values in recipes: `python -m tests.fuzz.words --count 500`.

Each case is a sound command with one option, or one field of its recipe, replaced. It must do its work, or refuse it
with one sentence and the code 2; nothing may escape as an exception, and nothing that is not a file be replaced.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = [
    "", " ", "-", "--", "nan", "inf", "-inf", "-1", "0", "1", "3", "1e400", "-1e400", "1.5", "0.5", "1e-320", "0x10",
    "1_000", "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 5000, "a" * 5000, "١٢", "½",
    "None", "true", "[1]", "{}", "1,2,3,4", "1,,2", ",", "1:2", "a=b", "=", "=:", "a=b:c", "\ud800", "a\x00b", "a\nb",
    "\x1b[31m", "\u202egnp.exe", "💥" * 50, "CON", "../..", "/", ".", "/dev/null", "/dev/zero", "~", "*", "%s%n",
    "{0}", "cuda", "cuda:99", "hpu", "meta", "cpu:0", "mps", "float64", "full", "9" * 30,
    "privateuseone", "xla", "vulkan", "xpu:1", "cuda:-1", "18446744073709551616", "1,9223372036854775808", "1e-300",
    "x=nofolder", "x=", "..=.", "x=a:", "../pipe", "../loop.png", "../huge",
]  # fmt: skip
VALUES = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, 10**400, -(10**400), 0.5, -0.5, 1e-320, 1e308, float("nan"),
    float("inf"), float("-inf"), "", "nan", "1", "\ud800", "a" * 5000, [], [1], [1, 2], [0, 0], [-1, 1], [2**63] * 3,
    [[]], [None], ["a"], {}, {"a": 1}, {"steps": {}}, [float("nan")] * 2, [1.5, 0.5], [1, 4], 10**6, 4096,
    "hpu", "privateuseone", 2**70,
]  # fmt: skip
# In the place of inputs; "/" would be searched for photographs.
INPUTS = [
    "", " ", ".", "..", "/dev/null", "/dev/zero", "../pipe", "../loop.png", "../huge", "a" * 5000, "\ud800", "a\x00b",
    "../l?/../../*/a.png", "../l?/../lq/a.png", "*",
]  # fmt: skip
SECONDS, LONGEST = 1.0, 700
MOST_SECONDS, PATIENCE = 25, 250  # of the processor, and of whoever waits for a case that waits itself
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Late(BaseException):
    """A case has taken too long."""


def prepare(folder):
    """Files that sound commands are given."""
    from tests.fuzz.subjects import Bundle
    from tests.trained import save_photos

    weights = Bundle(folder).path
    save_photos(folder / "photos")
    os.mkfifo(folder / "pipe")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "huge").touch()
    os.truncate(folder / "huge", 2**36)  # of holes
    for name, side in (("lq", 16), ("gt", 64)):
        (folder / name).mkdir()
        rng = np.random.default_rng(0)
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(folder / name / "a.png")
    return weights


def sound_commands(folder, weights):
    """Name -> words, and the recipe's sections where there is one."""
    from tests.core.commands.test_train_command import AE_SECTIONS, LDM_SECTIONS

    lq, out = str(folder / "lq" / "a.png"), folder / "out"
    train = ["--run", str(out / "run"), "--threads", "1", "--steps", "1"]
    photos = str(folder / "photos")
    pfj = {key: value for key, value in LDM_SECTIONS.items() if key not in ("net", "pairs")} | {"pairs": 8}
    pfj["task"] = {"batch_size": 2, "perceptual_weight": 0.0}  # which would need a package that may be missing
    mmle = {"data": {"size_px": 64, "min_scale": 1.0}, "walks": 4, "held_out": 4, "ends": 2, "holdout": 0.4}
    metrics = {"fr_metrics": ["psnr"], "fr_weights": [1.0], "nr_metrics": ["piqe"], "nr_weights": [1.0]}
    mmle |= {"loop": {"check_every": 1}, "net": {**metrics, "worst": [0, 100], "best": [50, 0]}}
    mmle |= {"task": {"batch_size": 2}}
    pairs = f"a={folder / 'lq'}:{folder / 'gt'}"
    measure = ["eval", "--out", str(out), "--pairs", pairs, "--model", str(weights)]
    return {
        "upscale": (["upscale", lq, "--output", str(out / "a.png"), "--model", str(weights), "--steps", "3"], None),
        "eval": ([*measure, "--metrics", "psnr", "--tables", "1", "--threads", "1", "--limit", "1"], None),
        "train autoencoder": (["train", "autoencoder", photos, *train], AE_SECTIONS),
        "train ldm": (["train", "ldm", photos, *train, "--autoencoder", str(weights)], LDM_SECTIONS),
        "train pfj": (["train", "pfj", photos, *train, "--model", str(weights)], pfj),
        "train mmle": (["train", "mmle", photos, *train, "--model", str(weights)], mmle),
    }


def options_of(command):
    """Long names of a command's options that take a value."""
    from adadiffsr_core.cli import build_parser

    parser = build_parser()
    for word in command.split():
        parsers = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = parsers.choices[word]
    return [a.option_strings[-1] for a in parser._actions if a.option_strings and a.nargs != 0]


def fields_of(sections):
    """(section, field) of a recipe, shipped ones too; a section of None is the recipe's own."""
    for name, value in sections.items():
        if isinstance(value, dict):
            yield from ((name, field) for field in value)
        yield None, name


_SPARE = 14 * 2**30  # a thousand threads ask for 8 GB of addresses


def build_case(commands, seed, number):
    """Name, words and recipe of a case."""
    rng = np.random.default_rng([seed, number])
    command = str(rng.choice(list(commands)))
    words, sections = commands[command]
    words, recipe = list(words), None if sections is None else json.loads(json.dumps(sections))
    if recipe is not None and rng.random() < 0.5:
        recipe.setdefault("loop", {}).update({"learning_rate": 1e-3, "betas": [0.9, 0.99], "seed": 0, "minutes": None})
        recipe["loop"] |= {"ema_decay": 0.9, "decay_share": 0.1, "accumulation": 1, "device": None}
        fields = list(fields_of(recipe))
        section, field = fields[int(rng.integers(len(fields)))]
        value = VALUES[int(rng.integers(len(VALUES)))]
        (recipe if section is None else recipe[section])[field] = value
        return f"{command} {section}.{field}={value!r:.80}", words, recipe
    if command != "eval" and rng.random() < 0.1:
        place, word = len(command.split()), INPUTS[int(rng.integers(len(INPUTS)))]
        words[place] = word
        return f"{command} input {word!r:.80}", words, recipe
    options = options_of(command)
    option, word = options[int(rng.integers(len(options)))], WORDS[int(rng.integers(len(WORDS)))]
    if option in words and rng.random() < 0.8:
        words[words.index(option) + 1] = word
    else:
        words += [option, word] if rng.random() < 0.5 else [f"{option}={word}"]
    return f"{command} {option} {word!r:.80}", words, recipe


def _stop(number, frame):
    raise Late


def try_words(folder, words, recipe, *, sound=False):
    """What is wrong with how the command took them, or that it refused sound ones; empty if nothing is."""
    from adadiffsr_core.cli import main

    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if recipe is not None:
        (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        # First, so that it does not stand over one that is the case.
        words = [*words[:2], "--config", str(folder / "recipe.json"), *words[2:]]
    said, begun = io.StringIO(), time.process_time()
    before = {number: signal.signal(number, _stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said), contextlib.chdir(out):
            code = main(words)
    except SystemExit as error:
        code = error.code
    except Late:
        return f"more than {MOST_SECONDS} s of work, or {PATIENCE} s of waiting"
    except BaseException:
        return "".join(traceback.format_exc().splitlines()[-1:])[:300] + " | " + _place()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if sound and code:
        return f"a sound command was refused: {said.getvalue()[-300:]}"
    return judge(code, said.getvalue(), time.process_time() - begun)


def _place():
    frames = traceback.extract_tb(sys.exc_info()[2])
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames[-4:]))


def judge(code, said, seconds):
    """What is wrong with an exit code and what was said."""
    if not all(stat.S_ISCHR(Path(name).stat().st_mode) for name in ("/dev/null", "/dev/zero")):
        return "a device was replaced"
    if code == 0:
        return ""
    if code != 2:
        return f"exit code {code}"
    sentence = said.strip().splitlines()[-1] if said.strip() else ""
    if not sentence or "Traceback" in said:
        return f"no sentence: {said[-200:]!r}"
    if _UNSAFE.search(said):
        return f"control characters: {sentence!r:.200}"
    if len(sentence) > LONGEST:
        return f"a sentence of {len(sentence)} characters: {sentence[:200]}"
    return f"{seconds:.1f} s to refuse: {sentence[:100]}" if seconds > SECONDS else ""


def run_cases(seed, numbers):
    """(case, fault) of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = sound_commands(folder, prepare(folder))
        # What is imported at first need is not the first case's fault.
        verdicts = []
        for name, case in commands.items():
            is_possible = name != "train mmle" or importlib.util.find_spec("pyiqa") is not None
            verdicts.append((name, try_words(folder, *case, sound=is_possible)))
        for number in numbers:
            case, words, recipe = build_case(commands, seed, number)
            verdicts.append((f"{number} {case}", try_words(folder, words, recipe)))
    return verdicts


def _work(job):
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    # Beyond this a case fails rather than the machine.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _SPARE, -1))
    return run_cases(*job)


def main():
    """The long run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    jobs = [(args.seed, range(start, min(start + 50, args.count))) for start in range(0, args.count, 50)]
    faults = 0
    # Not a Pool, whose workers may have no processes of their own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, context, max_tasks_per_child=1) as pool:
        for verdicts in pool.map(_work, jobs):
            for case, fault in verdicts:
                if fault:
                    faults += 1
                    sys.stdout.write(f"{case.encode('ascii', 'backslashreplace').decode()}: {fault!r}\n")
                    sys.stdout.flush()
    sys.stdout.write(f"{args.count} cases, {faults} faults\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
