"""Round numbers on an axis, and short texts for them."""

from __future__ import annotations

import math
from collections.abc import Sequence


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between `low` and `high`, about `count`."""
    if not high > low:
        return [low]
    step = _round_step((high - low) / count)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two positive numbers; fewer over many powers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, len(powers) // 6)
    digits: Sequence[int] = (1, 2, 5) if len(powers) <= 4 else (1,)
    found = [digit * 10.0**power for power in powers if power % every == 0 for digit in digits]
    within = [each for each in found if low * (1 - 1e-9) <= each <= high * (1 + 1e-9)]
    return within if len(within) > 1 else linear_ticks(low, high)


def short(value: float) -> str:
    """A number of an axis or a table: `0.25`, `12k`, `3.4M`, `2e-05`."""
    size = abs(value)
    if not math.isfinite(value):
        return "not a number"
    for name, unit in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= 10 * unit or (name != "k" and size >= unit):
            return f"{value / unit:.4g}{name}"
    return f"{value:.4g}"


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= step * (1 - 1e-9))
