"""How long and how fast a training run goes: by steps, by minutes, or by whichever ends first."""

from dataclasses import dataclass

from ...config import Batch, Config, Seed
from ...errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class LoopConfig(Config):
    """How long and how fast to train.

    Attributes:
        steps: optimiser steps in all, counted from the very beginning and over resumes; None is no limit.
        minutes: of training in all, likewise, saving and measuring included; None is no limit.
        learning_rate: peak of the schedule.
        warmup_steps: linear rise from zero.
        decay_share: linear fall to zero over this last share of the run.
        betas, weight_decay: of AdamW.
        max_grad_norm: gradients are scaled down to this norm.
        ema_decay: of the averaged weights, which are those that are shipped.
        seed: of everything random.
        log_every, check_every, save_every: in steps.
        check_at_end: measure once more when the run is over, whatever step that is.
        save_minutes: save as soon as so much time has passed since the last time, too; None does not.
        device: to train on, such as `cuda`; None takes CUDA if there is any, else the processor.
        bfloat16: autocast of the forward passes; None where the device is built for it.
        compile: let torch compile each network: a minute at the start, for more steps afterwards.
        accumulation: passes whose mean gradient makes a step, for batches larger than memory.
        average_on_disk: keep the averaged weights in a file rather than in memory.
    """

    steps: int | None = 1000
    minutes: float | None = None
    learning_rate: float = 5e-4
    warmup_steps: int = 200
    decay_share: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    seed: Seed = 0
    log_every: int = 50
    check_every: int = 1000
    save_every: int = 500
    check_at_end: bool = False
    save_minutes: float | None = None
    device: str | None = None
    bfloat16: bool | None = None
    compile: bool = False
    accumulation: Batch = 1
    average_on_disk: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is None and self.minutes is None:
            raise ConfigError("a run needs an end; give steps, minutes or both")
        if (self.steps or 1) < 1 or not self.learning_rate > 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError(
                f"steps must be at least 1, learning_rate above 0 and ema_decay in [0,1), got {self.steps}, "
                f"{self.learning_rate}, {self.ema_decay}"
            )
        for name, minutes in (("minutes", self.minutes), ("save_minutes", self.save_minutes)):
            if minutes is not None and not 0 < minutes < float("inf"):
                raise ConfigError(f"{name} must be above 0, got {minutes}")
        if min(self.warmup_steps, self.weight_decay) < 0 or not self.max_grad_norm > 0:
            raise ConfigError(
                "warmup_steps and weight_decay must not be negative and max_grad_norm above 0, got "
                f"{self.warmup_steps}, {self.weight_decay} and {self.max_grad_norm}"
            )
        if not 0 <= min(self.betas) <= max(self.betas) < 1:
            raise ConfigError(f"betas must be in [0,1), got {self.betas}")
        if not 0 <= self.decay_share <= 1:
            raise ConfigError(f"decay_share must be in [0,1], got {self.decay_share}")
        if min(self.log_every, self.check_every, self.save_every, self.accumulation) < 1:
            raise ConfigError("log_every, check_every, save_every and accumulation must be at least 1")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is over, by steps or by time, whichever is further; 1 and more is its end."""
        by_steps = 0.0 if self.steps is None else step / self.steps
        return max(by_steps, 0.0 if self.minutes is None else seconds / (60 * self.minutes))

    def learning_rate_at(self, step: int, seconds: float = 0.0) -> float:
        """Warm up, hold, decay: holding lets a run be prolonged without having planned for it.

        Args:
            step: steps done.
            seconds: of training so far; they count only where `minutes` is set.
        """
        rise = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = max(0.0, 1 - self.progress(step, seconds))
        return self.learning_rate * min(rise, left / self.decay_share if self.decay_share else 1.0, 1.0)

    def ema_decay_at(self, step: int) -> float:
        """Young averages forget faster, or they would remember the random start."""
        return min(self.ema_decay, (step + 1) / (step + 10))
