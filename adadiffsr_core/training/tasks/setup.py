"""What every task is given, whatever it trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ...models.processor import Processor

T = TypeVar("T")
H = TypeVar("H")


@dataclass(frozen=True)
class Examples(Generic[T, H]):
    """What is learnt from.

    Attributes:
        train: to train on.
        held_out: to measure on; of other photographs.
    """

    train: T
    held_out: H


@dataclass(frozen=True)
class TaskSetup:
    """Where a task is trained, and what makes it the same again.

    Attributes:
        processor: that trains; its precision is that of the networks.
        seed: of everything random.
        facts: of what is learnt from, for the exported file.
    """

    processor: Processor
    seed: int
    facts: Mapping[str, object] = field(default_factory=dict)
