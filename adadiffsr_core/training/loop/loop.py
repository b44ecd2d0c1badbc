"""The training loop: seeded by step, resumable to the same bits, and the same for every network and device.

Everything random in step s is drawn from (seed, s), so a run that was stopped and resumed sees
what an uninterrupted one sees, and only weights, moments and averages have to be kept. Between
two lines of its log the host never waits for the device.
"""

import copy
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...drawing.charts import save_loss_chart, save_sheet
from ...errors import ConfigError
from ...models.checkpoint import name_weights
from ...text import shown
from .config import LoopConfig
from .history import keep_rows, parse_facts
from .optimiser import Optimiser
from .paging import page_out
from .state import (
    check_module,
    check_names,
    load_state,
    pack_optimiser,
    save_state,
    unpack_module,
    unpack_optimiser,
)

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What is trained: the loop knows nothing of networks, data and losses.

    Attributes:
        name: of the run's files.
        networks: every module with weights to keep, by name.
        averaged: names of those networks of which averages are kept.
    """

    name: str
    networks: nn.ModuleDict
    averaged: tuple[str, ...]

    def turns(self, step: int) -> Iterable[tuple[str, Mapping[str, Tensor]]]:
        """Yield (network to update, its losses, of which `total` is minimised) for this step; losses are scalars.

        With `LoopConfig.accumulation` a > 1, `step` counts passes: optimiser step s is passes s*a to s*a + a - 1.
        """
        ...

    def check(self, networks: nn.ModuleDict) -> Mapping[str, float]:
        """Measure on held-out photographs."""
        ...

    def sheet(self, networks: nn.ModuleDict) -> np.ndarray:
        """A picture of what `networks` do on held-out photographs, uint8 `[H,W,3]`."""
        ...

    def export(self, networks: nn.ModuleDict, path: Path, facts: Mapping[str, object]) -> None:
        """Write the weights that users load."""
        ...


@contextmanager
def _held_interrupt() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets, so that a step can be finished; the second one acts at once."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals are the main thread's business
        return
    before = signal.getsignal(signal.SIGINT)

    def hold(number: int, frame: object) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    signal.signal(signal.SIGINT, hold)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


class Run:
    """One training run in one folder: `state.safetensors`, `weights.safetensors`, curves and sheets.

    Attributes:
        step, seconds: done so far, earlier runs included.
        history: rows of figures: losses, each with its step and time, and what `Task.check` found.
    """

    def __init__(self, task: Task, config: LoopConfig, folder: Path) -> None:
        self.task, self.config, self.folder = task, config, folder
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, float]] = []
        self.average = copy.deepcopy(task.networks).requires_grad_(False)
        self._release = page_out(self.average, folder) if config.average_on_disk else None
        # Looked up once: a small network's step takes less time than naming all its weights.
        self._averages: list[tuple[list[Tensor], list[Tensor]]] = []
        self._counters: list[tuple[Tensor, Tensor]] = []
        for name in task.averaged:
            old, new = self.average[name].state_dict(), task.networks[name].state_dict()
            moved = [key for key, value in old.items() if value.is_floating_point()]
            self._averages.append(([old[key] for key in moved], [new[key] for key in moved]))
            self._counters += [(old[key], new[key]) for key in old.keys() - set(moved)]
        self.optimisers = {
            name: Optimiser(network.parameters(), config)
            for name, network in task.networks.items()
            if any(p.requires_grad for p in network.parameters())
        }
        if config.accumulation > 1 and len(self.optimisers) > 1:
            raise ConfigError(f"{task.name} trains {len(self.optimisers)} networks in turn; its accumulation must be 1")
        if os.path.lexists(self.state_path):
            self._load()

    @property
    def state_path(self) -> Path:
        """Where the state for resuming is."""
        return self.folder / "state.safetensors"

    @property
    def is_over(self) -> bool:
        """Whether the steps or the minutes are spent."""
        return self.config.progress(self.step, self.seconds) >= 1

    def train(self) -> None:
        """Train to the end that `config` sets, saving on the way, on Ctrl-C and at the end.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when the step is whole and saved; a second Ctrl-C does not wait.
        """
        first, before = self.step, self.seconds
        began = saved = time.monotonic()
        pending: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()  # of each loss: some come in late
        with (
            _held_interrupt() as interrupted,
            tqdm(total=self.config.steps, initial=self.step, desc=self.task.name, mininterval=5) as bar,
        ):
            while not self.is_over and not interrupted.is_set():
                losses = self._one_step()
                _add(pending, losses)
                counts.update(losses.keys())
                self.step += 1
                self.seconds = before + time.monotonic() - began
                bar.update()
                if self.step % self.config.log_every == 0:
                    bar.set_postfix_str(self._log(pending, counts), refresh=False)
                    pending, counts = {}, Counter()
                if self.step % self.config.check_every == 0:
                    self.check()
                if self.step % self.config.save_every == 0 or self._is_late(time.monotonic() - saved):
                    self.save()
                    saved = time.monotonic()
            if self.is_over and self.config.check_at_end and self.step % self.config.check_every:
                self.check()
            # Not in a `finally`: what an error left of a half-done step must not replace the last whole state.
            self.save()
        logger.info("%d steps in %.0f s", self.step - first, time.monotonic() - began)
        if interrupted.is_set():
            raise KeyboardInterrupt

    def _is_late(self, seconds: float) -> bool:
        return self.config.save_minutes is not None and seconds >= 60 * self.config.save_minutes

    def _log(self, pending: Mapping[str, Tensor], counts: Mapping[str, int]) -> str:
        """Read the sums of so many of each loss, the one wait for the device, and note their means."""
        keys, sums = list(pending), torch.stack(list(pending.values())).tolist()
        means = {key: value / counts[key] for key, value in zip(keys, sums, strict=True)}
        self.history.append({"step": self.step, "seconds": round(self.seconds, 1), **means})
        for name, optimiser in self.optimisers.items():
            if skipped := optimiser.take_skipped():
                logger.warning("step %d: %d gradients of %s were not finite, left out", self.step, skipped, name)
        return ", ".join(f"{key}={value:.4f}" for key, value in means.items())

    def _one_step(self) -> dict[str, Tensor]:
        """Update every network that the task names this step; losses stay on the device."""
        self.task.networks.train()
        seen: dict[str, Tensor] = {}
        passes = self.config.accumulation
        for number in range(passes):
            for name, losses in self.task.turns(self.step * passes + number):
                if number == 0:
                    self.optimisers[name].drop_gradients()
                (losses["total"] / passes).backward()  # type: ignore[no-untyped-call]
                if number == passes - 1:
                    self.optimisers[name].step(self.config.learning_rate_at(self.step, self.seconds))
                _add(seen, {f"{name}.{key}": value.detach() / passes for key, value in losses.items()})
        self._update_average()
        return seen

    @torch.no_grad()
    def _update_average(self) -> None:
        weight = 1 - self.config.ema_decay_at(self.step)
        for olds, news in self._averages:
            if self._release is None:
                torch._foreach_lerp_(olds, news, weight)
                continue
            for old, new in zip(olds, news, strict=True):
                old.lerp_(new.to(old), weight)
                self._release()
        for old, new in self._counters:
            old.copy_(new)

    def check(self) -> Mapping[str, float]:
        """Measure the averaged weights, add the figures to the history, and draw chart and sheet."""
        self._drop_gradients()
        self.average.eval()
        with torch.no_grad():
            figures = self.task.check(self.average)
            sheet = self.task.sheet(self.average)
        self.history.append({"step": self.step, **{f"check.{key}": value for key, value in figures.items()}})
        save_sheet(sheet, self.folder / f"sheet-{self.step:07d}.png")
        save_loss_chart(self.history, self.folder / "losses.png", title=self.task.name)
        logger.info("step %d: %s", self.step, {key: round(value, 4) for key, value in figures.items()})
        self._forget()
        return figures

    def save(self) -> None:
        """Write state and weights, each whole or not at all."""
        self._drop_gradients()
        tensors = name_weights(self.task.networks, "network.") | name_weights(self.average, "average.")
        for name, optimiser in self.optimisers.items():
            tensors |= pack_optimiser(f"optimiser.{name}", optimiser.adam)
        facts = {
            "task": self.task.name,
            "step": self.step,
            "seconds": self.seconds,
            "config": self.config.to_dict(),
            "history": keep_rows(self.history),
            "tensors": len(tensors),
        }
        save_state(self.state_path, tensors, facts)
        self.task.export(
            self.average, self.folder / "weights.safetensors", {"steps": self.step, "seed": self.config.seed}
        )
        self._forget()

    def _forget(self) -> None:
        if self._release is not None:
            self._release()

    def _drop_gradients(self) -> None:
        # Their memory is needed for the averaged weights, and the next step makes them anew.
        for optimiser in self.optimisers.values():
            optimiser.drop_gradients()

    def _load(self) -> None:
        tensors, stored = load_state(self.state_path)
        facts = parse_facts(self.state_path, stored)
        if facts.task != self.task.name:
            raise ConfigError(f"{self.folder} holds a run of {shown(facts.task, 80)}, not of {self.task.name}")
        # All that can be seen in the header, before anything is read.
        prefixes = {name: f"optimiser.{name}" for name in self.optimisers}
        check_names(tensors, ("network", "average", *prefixes.values()), facts.tensors)
        check_module("network", self.task.networks, tensors)
        check_module("average", self.average, tensors)
        unpack_module("network", self.task.networks, tensors)
        unpack_module("average", self.average, tensors)
        self._forget()
        for name, optimiser in self.optimisers.items():
            unpack_optimiser(prefixes[name], optimiser.adam, tensors)
        self.step, self.seconds, self.history = facts.step, facts.seconds, facts.history
        logger.info("resumed %s at step %d", self.task.name, self.step)


def _add(sums: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Add scalars to sums by name, wherever they are."""
    for key, value in values.items():
        sums[key] = sums[key] + value if key in sums else value
