"""What DeepSpeed and torch print while a training starts goes to the rank's log, and to the terminal only if asked for.

Otherwise a dozen of their lines would hide two of ours. Warnings of a running training are shown as usual.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import redirect_stdout
from types import TracebackType
from typing import Final

from mmae.errors import InputError
from mmae.processes import command_of

_SPEAKERS: Final = ("DeepSpeed", "torch.utils.cpp_extension")
_FACTS: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES", "MASTER_ADDR", "MASTER_PORT")
_kept: list[logging.LogRecord] = []


class Chatter:
    """A context around a start, until the ranks have met. It holds back what libraries print.

    Attributes:
        verbose: show the output after all. Set it as soon as the configuration is known.
    """

    def __init__(self) -> None:
        self.verbose = False
        self._held: list[logging.LogRecord] = []
        self._printed = io.StringIO()
        self._redirect = redirect_stdout(self._printed)

    def __enter__(self) -> Chatter:
        for name in _SPEAKERS:
            logging.getLogger(name).addFilter(self._hold)
        self._redirect.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._redirect.__exit__(kind, error, trace)
        for name in _SPEAKERS:
            logging.getLogger(name).removeFilter(self._hold)
        if self.verbose or (isinstance(error, Exception) and not isinstance(error, InputError)):
            # The held output may explain the error.
            sys.stdout.write(self._printed.getvalue())
            for record in self._held:
                logging.getLogger(record.name).handle(record)
        else:
            _kept.extend(self._held)
            _kept.extend(_record("stdout", line) for line in self._printed.getvalue().splitlines() if line.strip())
        _kept.append(_record("mmae.launch", _started_as()))

    def _hold(self, record: logging.LogRecord) -> bool:
        self._held.append(record)
        return False


def take_kept() -> list[logging.LogRecord]:
    """Take the kept records. They are returned once."""
    taken = list(_kept)
    _kept.clear()
    return taken


def let_libraries_speak(verbose: bool) -> None:
    """Send DeepSpeed's INFO lines to the rank's log, and to stdout only with `log.verbose`."""
    speaker = logging.getLogger("DeepSpeed")
    speaker.setLevel(logging.INFO)
    for handler in speaker.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setLevel(logging.INFO if verbose else logging.WARNING)


def _started_as() -> str:
    facts = [f"{name}={os.environ[name]}" for name in _FACTS if name in os.environ]
    return f"process {os.getpid()}, {' '.join(facts)}, started by process {os.getppid()}: {command_of(os.getppid())}"


def _record(name: str, line: str) -> logging.LogRecord:
    return logging.LogRecord(name, logging.INFO, __file__, 0, "%s", (line,), None)
