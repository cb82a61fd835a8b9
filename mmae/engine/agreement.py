"""What the ranks agree on in a step, read two steps later: no step waits for its own numbers.

Every rank reads the same numbers at the same later step, so all of them act on what they read together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

LATE_STEPS: Final = 2
"""Steps between a number's being made and its being read."""

Context = TypeVar("Context")


class LateNumbers(Generic[Context]):
    """Small device vectors on their way to the host, each with what belongs to it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None, Context]] = deque()

    def push(self, step: int, numbers: Tensor, context: Context) -> None:
        """Begin to copy a step's numbers to the host. Does not wait."""
        if numbers.device.type != "cuda":
            self._waiting.append((step, numbers.detach().clone(), None, context))
            return
        copied = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        copied.copy_(numbers.detach(), non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._waiting.append((step, copied, arrived, context))

    def due(self, step: int) -> Iterator[tuple[int, list[float], Context]]:
        """What was pushed `LATE_STEPS` before `step` or earlier: step, numbers, what belongs to them."""
        while self._waiting and self._waiting[0][0] <= step - LATE_STEPS:
            yield self._take()

    def drain(self) -> Iterator[tuple[int, list[float], Context]]:
        """All of it, at once. Waits for the device."""
        while self._waiting:
            yield self._take()

    def _take(self) -> tuple[int, list[float], Context]:
        step, numbers, arrived, context = self._waiting.popleft()
        if arrived is not None:
            arrived.synchronize()
        return step, numbers.tolist(), context
