"""The trainings of one lease, as commands: autoencoder, diffusion model, and its finish for the eye."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adadiffsr_core.files import read_small_file

AUTOENCODER, LDM, FINISH = "autoencoder", "ldm", "finish"
_NEVER, _CHECK_EVERY = 10**9, 2000
_LONGEST = 10**6  # bytes of a file that changes a recipe


@dataclass(frozen=True, kw_only=True)
class Lease:
    """What one command on the machine is told.

    Attributes:
        pack: what `scripts.device.pack` wrote.
        work: folder of the runs, which stay there.
        minutes: for everything, reading and starting included.
        autoencoder_minutes: of training the autoencoder; 0 leaves it as it is in `start`.
        finish_minutes: of finishing the diffusion model for the eye, at the end; 0 leaves it as it was trained.
        device: to train on.
        start: joined weights of an earlier lease, or None to begin from nothing.
        configs: recipe files that change the shipped ones, by stage.
        more: further words of the commands, by stage.
        threads: of the processor; None for the command's own choice.
        command: how `adadiffsr` is called.
        save_seconds: between two states, and between two sets of results.
        start_up_seconds: kept free for a command to start and read; cold disks are slow.
        closing_seconds: kept free at the end for the last state and the last set of results.
    """

    pack: Path
    work: Path
    minutes: float
    autoencoder_minutes: float
    finish_minutes: float
    device: str
    start: Path | None
    configs: dict[str, Path | None]
    more: dict[str, tuple[str, ...]]
    threads: int | None
    command: tuple[str, ...]
    save_seconds: float
    start_up_seconds: float
    closing_seconds: float


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training.

    Attributes:
        kind: `autoencoder`, `ldm` or `finish`: the name of the file that comes back.
        run: its folder.
        words: of the command without its minutes.
        seconds: to train for; None takes all that are left.
        kept: seconds that the next one needs, start-up included.
    """

    kind: str
    run: Path
    words: tuple[str, ...]
    seconds: float | None
    kept: float = 0.0

    @property
    def weights(self) -> Path:
        """What it makes, replaced as a whole each time."""
        return self.run / "weights.safetensors"

    def batch_size(self) -> int:
        """Examples in a step, of the recipe that the run notes; 0 as long as there is none."""
        try:
            return int(json.loads((self.run / "recipe.json").read_text(encoding="utf-8"))["task"]["batch_size"])
        except (OSError, ValueError, KeyError):
            return 0


def plan_stages(lease: Lease) -> list[Stage]:
    """The trainings in their order."""
    known = None if lease.start is None else _weights_of(lease.start)
    stages = []
    autoencoder = None if known is None else known(AUTOENCODER)
    if lease.autoencoder_minutes > 0:
        more: tuple[str, ...] = () if autoencoder is None else ("--init", str(autoencoder))
        stages.append(_stage(lease, AUTOENCODER, lease.autoencoder_minutes * 60, more))
        autoencoder = stages[0].weights
    more = ("--autoencoder", str(autoencoder))
    if known is not None and (init := known(LDM)).is_file():
        more += ("--init", str(init))
    kept = lease.finish_minutes * 60 + lease.start_up_seconds if lease.finish_minutes else 0.0
    stages.append(_stage(lease, LDM, None, more, kept=kept))
    if kept:
        more = ("--finish", "--autoencoder", str(autoencoder), "--init", str(stages[-1].weights))
        stages.append(_stage(lease, FINISH, None, more))
    return stages


def _weights_of(folder: Path) -> Callable[[str], Path]:
    """Where a folder of joined weights has a network; an ldm file holds its autoencoder too."""

    def find(kind: str) -> Path:
        path = folder / f"{kind}.safetensors"
        return path if path.is_file() else folder / f"{LDM}.safetensors"

    return find


def _stage(lease: Lease, kind: str, seconds: float | None, more: tuple[str, ...], kept: float = 0.0) -> Stage:
    run, network = lease.work / kind, LDM if kind == FINISH else kind
    words = (*lease.command, "train", network, str(lease.pack / "photos"), "--run", str(run), "--device", lease.device)
    config = _write_config(lease.configs.get(kind), lease.save_seconds, lease.work / f"{kind}.json")
    words += ("--config", str(config), *more)
    if lease.threads is not None:
        words += ("--threads", str(lease.threads))
    return Stage(kind=kind, run=run, words=words + lease.more.get(kind, ()), seconds=seconds, kept=kept)


def _write_config(given: Path | None, save_seconds: float, path: Path) -> Path:
    """The recipe's changes, with a state every minute unless they say otherwise.

    By steps it is not, nor is measuring as often as on a processor: a fast machine would do little else.
    """
    config = {} if given is None else json.loads(read_small_file(given, _LONGEST))
    paced = {"save_minutes": save_seconds / 60, "save_every": _NEVER, "check_every": _CHECK_EVERY}
    config["loop"] = {**paced, **config.get("loop", {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return path
