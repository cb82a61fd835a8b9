"""Ranks that `deepspeed` starts on this machine."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from mmae.launch.supervision.first_error import first_of_file
from mmae.launch.supervision.launched_job import Job
from mmae.processes import children_of
from mmae.terminal.error_line import ERRORS


class LocalRanks(Job):
    """The ranks write their errors into a file too, so that stderr may stay a terminal, with its progress bar."""

    _errors: Path

    def __enter__(self) -> Job:
        descriptor, path = tempfile.mkstemp(prefix="mmae-errors-")
        os.close(descriptor)
        self._errors = Path(path)
        os.environ[ERRORS] = path
        return self

    def __exit__(self, *about: object) -> None:
        super().__exit__(*about)
        self._errors.unlink(missing_ok=True)

    def ask(self, number: signal.Signals) -> bool:
        ranks = self._ranks()
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, number)
        return bool(ranks)

    def _ranks(self) -> list[int]:
        # DeepSpeed's runner starts a launch process, which starts the ranks.
        launches = children_of(self._process.pid) if self._process else []
        return [rank for launch in launches for rank in children_of(launch)]

    def say_first_error(self) -> None:
        if line := first_of_file(self._errors):
            self.say(f"the first error: {line}")
