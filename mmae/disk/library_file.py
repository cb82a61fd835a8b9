"""Files that a library writes which cannot bear it when a write fails, or when Python raises in the middle of one.

HDF5 can then neither close its file nor forget it, and torch's writer fails again while it is taken down: both end the
process. So they write to a file here that says yes to everything, and what went wrong is raised behind them.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def library_file(file: IO[bytes]) -> Iterator[LibraryFile]:
    """What to give to the library in place of `file`.

    Raises:
        OSError: a write failed. Whatever a signal raises that came meanwhile.
    """
    with _signals_noted() as noted:
        output = LibraryFile(file, noted)
        yield output
        output.check()


class LibraryFile:
    """A binary file. What follows a failed write is thrown away."""

    def __init__(self, file: IO[bytes], noted: list[int]) -> None:
        raw: Any = file
        self._file = raw
        self._noted = noted
        self._error: OSError | None = None
        # Buffered and raw files have all of these.
        self.read, self.readinto, self.seek, self.tell = raw.read, raw.readinto, raw.seek, raw.tell

    def check(self) -> None:
        """Raise what went wrong so far; to be called between two of the library's calls."""
        if self._error is not None:
            raise self._error
        if self._noted:
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._try(lambda: self._write_all(view))
        return len(view)

    def truncate(self, size: int) -> int:
        self._try(lambda: self._file.truncate(size))
        return size

    def flush(self) -> None:
        """Nothing: whoever opened the file does it."""

    def _write_all(self, view: memoryview) -> None:
        while view:
            view = view[self._file.write(view) :]

    def _try(self, act: Callable[[], object]) -> None:
        if self._error is None:
            try:
                act()
            except OSError as error:
                self._error = error


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """In it signals that would end the block are only noted; what they do is done after it."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    handlers = {number: signal.getsignal(number) for number in _STOPPING}
    handlers = {number: handler for number, handler in handlers.items() if handler not in {None, signal.SIG_IGN}}
    for number in handlers:
        signal.signal(number, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])
