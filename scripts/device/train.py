"""Trains within the minutes that a machine is lent for; `scripts/train_on_device.sh` calls it there.

    python -m scripts.device.train PACK OUT [--minutes M] [--device cuda] [--from JOINED]

Nothing here imports torch: the commands that train do, and every second counts once.
"""

import argparse
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from PIL import features

from adadiffsr_core.errors import AdaDiffSRError, ConfigError

from .child import Ended, run_until
from .environment import child_environment
from .join import REPORTS
from .progress import Progress
from .publish import Publisher, zip_reports
from .stages import AUTOENCODER, FINISH, LDM, Lease, Stage, plan_stages

_RECIPES = Path(__file__).parent / "recipes"
_SHARE_OF_AUTOENCODER = 0.37  # 3.5 minutes of 9.5
_FEWEST_SECONDS = 2.0


class Session:
    """One lease: stages in turn, results every minute, and the end before the machine goes."""

    def __init__(self, lease: Lease, out: Path, started: float) -> None:
        self.lease, self.started = lease, started
        self.end = started + lease.minutes * 60
        self.publisher = Publisher(out)
        self.progress = Progress(sys.stdout, lease.work / "log.txt", lambda: (self.end - time.monotonic()) / 60)
        self.stages = plan_stages(lease)
        self.done: list[dict[str, object]] = []
        self._published, self._minutes = (started, 0.0), ""

    def run(self) -> int:
        """Train all stages.

        Returns:
            0, or the exit code of a stage that failed.
        """
        self.progress.say(
            f"{len(self.stages)} trainings: {', '.join(stage.kind for stage in self.stages)}; {_codecs()}"
        )
        try:
            for stage in self.stages:
                if code := self._run_stage(stage):
                    return code
            return 0
        finally:
            self.publish()
            self.publisher.close()
            self.progress.say("the end")
            self.progress.close()

    def _run_stage(self, stage: Stage) -> int:
        """One training; one that fails is begun again once, where its state was, and what it left is used anyhow."""
        ended = self._train(stage)
        if _has_failed(ended) and stage.weights.is_file():
            self.progress.say(f"{stage.kind} failed with exit code {ended.code}; it goes on from its last state")
            ended = self._train(stage, again=True)
        self.publish()
        if stage.weights.is_file():
            return ended.code if _has_failed(ended) and stage is self.stages[-1] else 0
        self.progress.say(f"{stage.kind} left no weights (exit code {ended.code})")
        return ended.code or 1

    def _train(self, stage: Stage, again: bool = False) -> Ended:
        """Run a stage's command; begun again, it is told the same minutes, which count what it did before."""
        now, lease = time.monotonic(), self.lease
        last = self.end - lease.closing_seconds - stage.kept
        seconds = last - now - lease.start_up_seconds
        if stage.seconds is not None:
            seconds = min(seconds, stage.seconds)
            last = min(last, now + lease.start_up_seconds * 3 + stage.seconds)
        if seconds < _FEWEST_SECONDS:
            self.progress.say(f"no time is left for {stage.kind}")
            return Ended(1, stopped=True)
        if not again:
            self._minutes = f"{seconds / 60:.3f}"
        self.progress.batch = stage.batch_size
        self.progress.say(f"{stage.kind}: {self._minutes} minutes of training")
        words = (*stage.words, "--minutes", self._minutes)
        ended = run_until(words, child_environment(lease.pack), last, self.progress.feed, self._tick)
        self.progress.flush()
        minutes = round((time.monotonic() - self.started) / 60, 2)
        self.done.append({"stage": stage.kind, "exit": ended.code, "stopped": ended.stopped, "at_minute": minutes})
        return ended

    def _tick(self) -> None:
        """Results, when a minute has gone by and there are newer weights."""
        when, newest = self._published
        if time.monotonic() - when >= self.lease.save_seconds and self._newest() > newest:
            self.publish()

    def _newest(self) -> float:
        return max((stage.weights.stat().st_mtime for stage in self.stages if stage.weights.is_file()), default=0.0)

    def publish(self) -> None:
        """Put what there is into the folder that is fetched."""
        begun, newest = time.monotonic(), self._newest()
        reports = self.lease.work / REPORTS
        zip_reports(reports, self._reports())
        # The most important first: limits leave out the last.
        found = {f"{stage.kind}.safetensors": stage.weights for stage in reversed(self.stages)}
        files = {name: path for name, path in found.items() if path.is_file()} | {REPORTS: reports}
        notes = {"minutes": round((begun - self.started) / 60, 2), "stages": self.done}
        left_out = self.publisher.publish(files, notes)
        self._published = (begun, newest)
        sizes = ", ".join(f"{name} {path.stat().st_size / 2**20:.1f} MiB" for name, path in files.items())
        self.progress.say(f"results: {sizes}, in {time.monotonic() - begun:.1f} s")
        if left_out:
            self.progress.say(f"left out, as too much: {', '.join(left_out)}")

    def _reports(self) -> list[tuple[str, Path]]:
        """Log, recipes and curves, then pictures, the newest first."""
        texts = [("log.txt", self.lease.work / "log.txt")]
        pictures = []
        for stage in reversed(self.stages):
            texts += [(f"{stage.kind}/{name}", stage.run / name) for name in ("recipe.json", "losses.png")]
            sheets = sorted(stage.run.glob("sheet-*.png"), reverse=True)
            pictures += [(f"{stage.kind}/{sheet.name}", sheet) for sheet in sheets[:4]]
        return texts + pictures


def _codecs() -> str:
    """Which photographs can be read here: another pack may use it."""
    return ", ".join(f"{name} {'yes' if features.check(name) else 'no'}" for name in ("webp", "avif"))


def _has_failed(ended: Ended) -> bool:
    return ended.code != 0 and not ended.stopped


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=Path, help="folder written by scripts.device.pack")
    parser.add_argument("out", type=Path, help="the folder that is fetched; parts go to results/ in it")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything (default 9.5)")
    parser.add_argument("--autoencoder-minutes", type=float, metavar="M", help="0 with --from, else 37 %% of all")
    parser.add_argument(
        "--finish-minutes", type=float, default=0.0, metavar="M",
        help="of them to finish the diffusion model for the eye; the pack needs --perceptual (0)",
    )  # fmt: skip
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--from", type=Path, dest="start", metavar="JOINED", help="joined weights to go on with")
    parser.add_argument("--work", type=Path, default=Path("out/device"), metavar="FOLDER", help="folder of the runs")
    parser.add_argument("--autoencoder-config", type=Path, metavar="JSON", help="what differs from its recipe")
    parser.add_argument("--ldm-config", type=Path, metavar="JSON", help="what differs from its recipe")
    parser.add_argument("--finish-config", type=Path, metavar="JSON", help="what differs from its recipe")
    parser.add_argument("--autoencoder-words", default="", metavar="WORDS", help="further options of its command")
    parser.add_argument("--ldm-words", default="", metavar="WORDS", help="such as '--workers 12'")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads")
    parser.add_argument("--save-seconds", type=float, default=60.0, metavar="S", help="between two states")
    parser.add_argument(
        "--start-up-seconds", type=float, metavar="S", help="kept for reading (45, less of a short lease)"
    )
    parser.add_argument("--closing-seconds", type=float, metavar="S", help="kept for the last results (12, or less)")
    parser.add_argument("--command", metavar="WORDS", help="how adadiffsr is called")
    return parser


def read_lease(args: argparse.Namespace) -> Lease:
    """The options, checked before any minute is spent.

    Raises:
        ConfigError: something is missing, or the minutes cannot be.
    """
    if not (args.pack / "photos").is_dir():
        raise ConfigError(f"{args.pack} has no photos; write it with python -m scripts.device.pack")
    known = (AUTOENCODER, LDM)
    if args.start is not None and not any((args.start / f"{kind}.safetensors").is_file() for kind in known):
        raise ConfigError(f"{args.start} holds no joined weights; write them with python -m scripts.device.join")
    if not args.minutes > 0:
        raise ConfigError(f"minutes must be positive, got {args.minutes}")
    share = args.minutes * _SHARE_OF_AUTOENCODER if args.start is None else 0.0
    autoencoder = share if args.autoencoder_minutes is None else args.autoencoder_minutes
    if args.finish_minutes and not 0 < args.finish_minutes < args.minutes - autoencoder:
        raise ConfigError(
            f"finish-minutes must leave some of the {args.minutes:g} minutes to the diffusion model, got "
            f"{args.finish_minutes:g} beside {autoencoder:g} of the autoencoder"
        )
    command = shlex.split(args.command) if args.command else [sys.executable, "-m", "adadiffsr_core.cli"]
    return Lease(
        pack=args.pack,
        work=args.work,
        minutes=args.minutes,
        autoencoder_minutes=autoencoder,
        finish_minutes=args.finish_minutes,
        device=args.device,
        start=args.start,
        configs={
            AUTOENCODER: args.autoencoder_config or _device_recipe(args.device, AUTOENCODER),
            LDM: args.ldm_config or _device_recipe(args.device, LDM),
            FINISH: args.finish_config or _device_recipe(args.device, FINISH),
        },
        more={
            AUTOENCODER: tuple(shlex.split(args.autoencoder_words)),
            LDM: tuple(shlex.split(args.ldm_words)),
            FINISH: tuple(shlex.split(args.ldm_words)),
        },
        threads=args.threads,
        command=tuple(command),
        save_seconds=args.save_seconds,
        start_up_seconds=_reserve(args.start_up_seconds, 45.0, args.minutes),
        closing_seconds=_reserve(args.closing_seconds, 12.0, args.minutes),
    )


def _device_recipe(device: str, kind: str) -> Path | None:
    """What differs on an accelerator: batches that fill it; the shipped recipes are a processor's."""
    return _RECIPES / f"{kind}.json" if device.startswith("cuda") else None


def _reserve(given: float | None, usual: float, minutes: float) -> float:
    """Seconds to keep; a rehearsal of a minute must not keep most of it."""
    return usual * min(1.0, minutes / 6) if given is None else given


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """The command line."""
    started = time.monotonic()
    before = signal.signal(signal.SIGTERM, _interrupt)  # stopped from outside, there may be seconds left to save in
    args = build_parser().parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    try:
        return Session(read_lease(args), args.out, started).run()
    except KeyboardInterrupt:
        return 130
    except (AdaDiffSRError, OSError) as error:
        sys.stderr.write(f"train_on_device: {error}\n")
        return 2
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
