"""Per-rank compute time, read without synchronising the device. It identifies the straggler.

All ranks end a step together, so its duration is the same on each of them. In the forward pass (at ZeRO stages 0 to 2)
and while fetching data a rank does not wait for others: there a slow rank differs from the rest.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from mmae.engine.engine_protocol import Engine


class ForwardTimer:
    """Adds up the duration of an engine's forward passes in training.

    On a GPU it uses events. Passes that the GPU has not finished count in the next lap.
    """

    def __init__(self, engine: Engine) -> None:
        self._mark: Callable[[], Any] = _event if engine.device.type == "cuda" else time.perf_counter
        self._began: Any = None
        self._passes: deque[tuple[Any, Any]] = deque()
        self._hooks = [engine.register_forward_pre_hook(self._begin), engine.register_forward_hook(self._end)]

    def lap(self) -> float:
        """Seconds of the passes that ended since the last lap."""
        seconds = 0.0
        while self._passes and _has_happened(self._passes[0][1]):
            seconds += _seconds(*self._passes.popleft())
        return seconds

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def _begin(self, engine: Engine, _args: object) -> None:
        if engine.training:
            self._began = self._mark()

    def _end(self, engine: Engine, _args: object, _result: object) -> None:
        if engine.training and self._began is not None:
            self._passes.append((self._began, self._mark()))


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _has_happened(mark: Any) -> bool:
    return not isinstance(mark, torch.cuda.Event) or bool(mark.query())  # type: ignore[no-untyped-call]


def _seconds(began: Any, ended: Any) -> float:
    if isinstance(began, torch.cuda.Event):
        return float(began.elapsed_time(ended)) / 1e3
    return float(ended - began)
