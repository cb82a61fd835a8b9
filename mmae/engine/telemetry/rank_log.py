"""One log file for each rank, `logs/rank_N.log`: libraries' messages, and how a rank failed. stderr stays readable."""

from __future__ import annotations

import logging
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Final, TextIO

from tqdm import tqdm

from mmae.addresses import hide_in_text
from mmae.engine.telemetry.library_output import take_kept
from mmae.terminal.error_line import say_error, typed_line
from mmae.terminal.printable import printable

FAILED: Final = ".first_failure"
"""A file in the folder of logs that the first failing rank creates."""
_HELD: Final = 1000
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    """Writes lines without secrets and without terminal control sequences."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__(_FORMAT)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        lines = hide_in_text(super().format(record), self._secrets).split("\n")
        return "\n".join(printable(line.expandtabs()) for line in lines)


class _AboveProgress(logging.StreamHandler[TextIO]):
    """Writes to stderr above a progress line, which is drawn again."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            super().emit(record)


class RankLog:
    """Collects what one rank sends to Python's logging and warnings.

    Lines are held in memory until `open` names the folder: a refused start leaves no files.

    Args:
        speaks: this rank also shows libraries' messages on stderr. Other ranks write them to their files only.
        secrets: strings that are kept out of the file.
    """

    def __init__(self, rank: int, speaks: bool, secrets: Sequence[str] = ()) -> None:
        self._rank = rank
        self._secrets = secrets
        self._path: Path | None = None
        self._handler: logging.Handler = MemoryHandler(_HELD, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
        self._handler.setLevel(logging.INFO)
        for record in take_kept():
            self._handler.handle(record)
        self._loggers = [logging.getLogger(), logging.getLogger("DeepSpeed")]
        self._muted: list[tuple[logging.Logger, logging.Handler]] = []
        self._stderr = _AboveProgress()
        self._stderr.setLevel(logging.WARNING)
        # These two have their own way to stderr.
        self._stderr.addFilter(lambda record: record.name not in {"mmae", "warnings"})
        for logger in self._loggers:
            if not speaks:
                self._mute(logger)
            logger.addHandler(self._handler)
        if speaks:
            # Once the root logger has a handler, Python no longer shows other libraries' warnings.
            self._loggers[0].addHandler(self._stderr)
        self._show = warnings.showwarning
        warnings.showwarning = self._warned
        self._speaks = speaks

    def open(self, folder: Path) -> None:
        """Write to `folder/rank_N.log` from now on, beginning with the held lines."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._rank == 0:
                (folder / FAILED).unlink(missing_ok=True)
            target = logging.FileHandler(folder / f"rank_{self._rank}.log", encoding="utf-8")
        except OSError as error:
            print(printable(f"{folder}: no log of rank {self._rank} ({error})"), file=sys.stderr)
            return
        target.setFormatter(_Formatter(self._secrets))
        self._path = folder / f"rank_{self._rank}.log"
        logging.getLogger("mmae").setLevel(logging.INFO)
        held, self._handler = self._handler, target
        if isinstance(held, MemoryHandler):
            held.setTarget(target)
            held.flush()
        for logger in self._loggers:
            logger.removeHandler(held)
            logger.addHandler(target)
        held.close()

    def failed(self, error: BaseException, by_another: bool = False) -> None:
        """Record an error: with its traceback in the file, in one line on stderr. The first failing rank prints both.

        Args:
            by_another: another rank is at fault, and the watchdog is about to name it.
        """
        self.record(error)
        if by_another:
            return
        if self.is_first():
            traceback.print_exception(error)
        where = f": traceback in {self._path}" if self._path is not None else ""
        line = f"mmae: rank {self._rank} on {socket.gethostname()} failed with {typed_line(error)}{where}"
        say_error(line)

    def record(self, error: BaseException) -> None:
        """Record an error with its traceback, in the file only."""
        logging.getLogger("mmae").error("rank %d failed", self._rank, exc_info=error)

    def close(self) -> None:
        """Restore logging and warnings as they were before."""
        warnings.showwarning = self._show
        for logger in self._loggers:
            logger.removeHandler(self._handler)
        self._loggers[0].removeHandler(self._stderr)
        for logger, handler in self._muted:
            logger.addHandler(handler)
        self._handler.close()

    def _mute(self, logger: logging.Logger) -> None:
        for handler in [each for each in logger.handlers if type(each) is logging.StreamHandler]:
            logger.removeHandler(handler)
            self._muted.append((logger, handler))

    def is_first(self) -> bool:
        """True for the rank that fails first, as far as is known."""
        if self._path is None:
            return True
        try:
            os.close(os.open(self._path.with_name(FAILED), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            return False
        return True

    def _warned(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        logging.getLogger("warnings").warning("%s", warnings.formatwarning(message, category, filename, lineno, line))
        if self._speaks:
            with tqdm.external_write_mode(file=sys.stderr):
                self._show(message, category, filename, lineno, file, line)
