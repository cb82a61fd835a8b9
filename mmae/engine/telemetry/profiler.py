"""Traces some steps, for `chrome://tracing` or Perfetto."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmae.terminal.error_line import first_line


class StepProfiler:
    """Traces the steps that `train.profile` names.

    Args:
        folder: the folder for the trace `steps_A-B.json.gz`.
        steps: first and last step, counted from 1. None: no trace.
        say: prints a line.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None, say: Callable[[str], None]) -> None:
        self._folder, self._steps, self._say = folder, steps, say
        self._running: Any = None
        self._first = self._done = 0

    def before(self, step: int) -> None:
        """Call before a step; `step` is its number."""
        if self._steps is None or self._running is not None or not self._steps[0] <= step <= self._steps[1]:
            return
        from torch.profiler import profile

        try:
            self._running = profile(record_shapes=True)
            self._running.start()
            self._first = step
        except Exception as error:  # a trace must not end a training
            self._give_up(error)

    def after(self, step: int) -> None:
        """Call after a step has been queued."""
        if self._running is None:
            return
        self._done = step
        if self._steps is None or step >= self._steps[1]:
            self.close()

    def close(self) -> None:
        """Write the trace so far."""
        running, self._running, self._steps = self._running, None, None
        if running is None:
            return
        path = self._folder / f"steps_{self._first}-{self._done}.json.gz"
        temporary = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            running.stop()
            self._folder.mkdir(parents=True, exist_ok=True)
            running.export_chrome_trace(str(temporary))
            os.replace(temporary, path)
            self._say(f"profile of steps {self._first} to {self._done}: {path}")
        except Exception as error:  # a trace must not end a training
            with suppress(OSError):
                temporary.unlink()
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._running = self._steps = None
        self._say(f"train.profile: no trace ({first_line(error)})")
