"""Checks that the data configurations share: probabilities, shares of a choice, and ranges."""

from collections.abc import Mapping

from ...errors import ConfigError

Range = tuple[float, float]


def check_probabilities(values: Mapping[str, float]) -> None:
    """Refuse a probability outside [0,1].

    Raises:
        ConfigError: names the setting and its value.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} is a probability and must be in [0,1], got {value}")


def check_shares(name: str, shares: tuple[float, ...], count: int) -> None:
    """Refuse anything but `count` non-negative numbers that sum to 1.

    Raises:
        ConfigError: names the setting and its value.
    """
    if len(shares) != count or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"{name} must be {count} probabilities that sum to 1, got {shares}")


def check_range(name: str, bounds: Range, low: float, high: float = float("inf")) -> None:
    """Refuse bounds that are not `low <= bounds[0] <= bounds[1] <= high`.

    Raises:
        ConfigError: names the setting and its value.
    """
    if len(bounds) != 2 or not low <= bounds[0] <= bounds[1] <= high or bounds[1] == float("inf"):
        raise ConfigError(f"{name} must be a range (from, to) within [{low},{high}], got {bounds}")


def check_sizes(name: str, bounds: tuple[int, int]) -> None:
    """Refuse bounds of kernel sizes that are not odd, positive and in order.

    Raises:
        ConfigError: names the setting and its value.
    """
    check_range(name, bounds, 1)
    if any(size % 2 != 1 for size in bounds):
        raise ConfigError(f"{name} must have odd ends, got {bounds}")
