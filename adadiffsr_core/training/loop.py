"""The training loop: seeded by step, resumable to the same bits, and the same for every network.

Everything random in step s is drawn from (seed, s), so a run that was stopped and resumed sees
what an uninterrupted one sees, and only weights, moments and averages have to be kept.
"""

import copy
import logging
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..config import Config
from ..errors import ConfigError
from .charts import save_loss_chart, save_sheet
from .paging import page_out
from .state import load_state, pack_module, pack_optimiser, save_state, unpack_module, unpack_optimiser

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Config):
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all, counted from the very beginning and over resumes.
        learning_rate: peak of the schedule.
        warmup_steps: linear rise from zero.
        decay_steps: linear fall to zero over the last steps.
        betas, weight_decay: of AdamW.
        max_grad_norm: gradients are scaled down to this norm.
        ema_decay: of the averaged weights, which are those that are shipped.
        seed: of everything random.
        log_every, check_every, save_every: in steps.
        bfloat16: autocast of the forward passes.
        accumulation: passes whose mean gradient makes a step, for batches larger than memory.
        average_on_disk: keep the averaged weights in a file rather than in memory.
    """

    steps: int = 1000
    learning_rate: float = 5e-4
    warmup_steps: int = 200
    decay_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 50
    check_every: int = 1000
    save_every: int = 500
    bfloat16: bool = True
    accumulation: int = 1
    average_on_disk: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"steps must be at least 1, learning_rate above 0 and ema_decay in [0,1), got {self.steps}, "
                f"{self.learning_rate}, {self.ema_decay}"
            )
        if min(self.log_every, self.check_every, self.save_every, self.accumulation) < 1:
            raise ConfigError("log_every, check_every, save_every and accumulation must be at least 1")

    def learning_rate_at(self, step: int) -> float:
        """Warm up, hold, decay: holding lets a run be prolonged without having planned for it."""
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = min(1.0, (self.steps - step) / max(1, self.decay_steps))
        return self.learning_rate * min(rise, fall)

    def ema_decay_at(self, step: int) -> float:
        """Young averages forget faster, or they would remember the random start."""
        return min(self.ema_decay, (step + 1) / (step + 10))


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
        """Yield (network to update, its losses, of which `total` is minimised) for this step.

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
    """One training run in one folder: `state.safetensors`, `weights.safetensors`, curves and sheets."""

    def __init__(self, task: Task, config: LoopConfig, folder: Path) -> None:
        self.task, self.config, self.folder = task, config, folder
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.average = copy.deepcopy(task.networks).requires_grad_(False)
        self._release = page_out(self.average, folder) if config.average_on_disk else lambda: None
        self.optimisers = {
            name: torch.optim.AdamW(
                network.parameters(),  # frozen ones too: moments are kept by place, and freezing must not shift them
                lr=config.learning_rate,
                betas=config.betas,
                weight_decay=config.weight_decay,
                foreach=False,  # which would need a copy of everything
            )
            for name, network in task.networks.items()
            if any(p.requires_grad for p in network.parameters())
        }
        if config.accumulation > 1 and len(self.optimisers) > 1:
            raise ConfigError(f"{task.name} trains {len(self.optimisers)} networks in turn; its accumulation must be 1")
        if self.state_path.exists():
            self._load()

    @property
    def state_path(self) -> Path:
        """Where the state for resuming is."""
        return self.folder / "state.safetensors"

    def train(self) -> None:
        """Train up to `config.steps`, saving on the way, on Ctrl-C and at the end.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when the step is whole and saved; a second Ctrl-C does not wait.
        """
        started, first = time.monotonic(), self.step
        pending: dict[str, list[float]] = {}
        with (
            _held_interrupt() as interrupted,
            tqdm(total=self.config.steps, initial=self.step, desc=self.task.name, mininterval=5) as bar,
        ):
            while self.step < self.config.steps and not interrupted.is_set():
                for key, value in self._one_step().items():
                    pending.setdefault(key, []).append(value)
                self.step += 1
                bar.update()
                if self.step % self.config.log_every == 0:
                    row = {key: float(np.mean(values)) for key, values in pending.items()}
                    self.history.append({"step": self.step, **row})
                    bar.set_postfix({key: f"{value:.4f}" for key, value in row.items()}, refresh=False)
                    pending = {}
                if self.step % self.config.check_every == 0:
                    self.check()
                if self.step % self.config.save_every == 0:
                    self.save()
            # Not in a `finally`: what an error left of a half-done step must not replace the last whole state.
            self.save()
        logger.info("%d steps in %.0f s", self.step - first, time.monotonic() - started)
        if interrupted.is_set():
            raise KeyboardInterrupt

    def _one_step(self) -> dict[str, float]:
        """Update every network that the task names this step."""
        self.task.networks.train()
        seen: dict[str, list[float]] = {}
        passes = self.config.accumulation
        for number in range(passes):
            for name, losses in self.task.turns(self.step * passes + number):
                if number == 0:
                    self.optimisers[name].zero_grad(set_to_none=True)
                (losses["total"] / passes).backward()  # type: ignore[no-untyped-call]
                if number == passes - 1:
                    self._update(name)
                for key, value in losses.items():
                    seen.setdefault(f"{name}.{key}", []).append(float(value.detach()))
        self._update_average()
        return {key: float(np.mean(values)) for key, values in seen.items()}

    def _update(self, name: str) -> None:
        """One step of a network's optimiser, if its gradient is finite."""
        group = self.optimisers[name].param_groups[0]
        norm = nn.utils.clip_grad_norm_(group["params"], self.config.max_grad_norm)
        group["lr"] = self.config.learning_rate_at(self.step)
        if bool(torch.isfinite(norm)):
            self.optimisers[name].step()
        else:
            logger.warning("step %d: gradient of %s is not finite, left out", self.step, name)

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = self.config.ema_decay_at(self.step)
        for name in self.task.averaged:
            old, new = self.average[name].state_dict(), self.task.networks[name].state_dict()
            for key, value in old.items():
                if value.is_floating_point():
                    value.lerp_(new[key].to(value), 1 - decay)
                else:
                    value.copy_(new[key])
                self._release()

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
        self._release()
        return figures

    def save(self) -> None:
        """Write state and weights, each whole or not at all."""
        self._drop_gradients()
        tensors = pack_module("network", self.task.networks) | pack_module("average", self.average)
        for name, optimiser in self.optimisers.items():
            tensors |= pack_optimiser(f"optimiser.{name}", optimiser)
        facts = {"task": self.task.name, "step": self.step, "config": self.config.to_dict(), "history": self.history}
        save_state(self.state_path, tensors, facts)
        self.task.export(
            self.average, self.folder / "weights.safetensors", {"steps": self.step, "seed": self.config.seed}
        )
        self._release()

    def _drop_gradients(self) -> None:
        # Their memory is needed for the averaged weights, and the next step makes them anew.
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)

    def _load(self) -> None:
        tensors, facts = load_state(self.state_path)
        if facts["task"] != self.task.name:
            raise ConfigError(f"{self.folder} holds a run of {facts['task']}, not of {self.task.name}")
        unpack_module("network", self.task.networks, tensors)
        unpack_module("average", self.average, tensors)
        self._release()
        for name, optimiser in self.optimisers.items():
            unpack_optimiser(f"optimiser.{name}", optimiser, tensors)
        self.step, self.history = facts["step"], facts["history"]
        logger.info("resumed %s at step %d", self.task.name, self.step)
