"""A file object for libraries that cannot handle a failed write, or an exception in the middle of a write.

After one, HDF5 can neither close nor discard its file, and torch's writer fails again in its destructor: both end the
process. So they write to a file object whose writes always succeed, and the error is raised after the library is done.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def library_file(file: IO[bytes]) -> Iterator[LibraryFile]:
    """The object to give to the library in place of `file`.

    Raises:
        OSError: a write failed. A signal that came meanwhile raises its own exception.
    """
    with _signals_noted() as noted:
        output = LibraryFile(file, noted)
        yield output
        output.check()


class LibraryFile:
    """A binary file. After a failed write, later writes are discarded."""

    def __init__(self, file: IO[bytes], noted: list[int]) -> None:
        raw: Any = file
        self._file = raw
        self._noted = noted
        self._error: OSError | None = None
        # Buffered and raw files have all of these.
        self.read, self.readinto, self.seek, self.tell = raw.read, raw.readinto, raw.seek, raw.tell

    def check(self) -> None:
        """Raise the first error so far. Call it between two calls of the library."""
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
        """Do nothing: the owner of the file flushes it."""

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _write_all(self, view: memoryview) -> None:
        while view:
            view = view[self._file.write(view) :]

    def _try(self, act: Callable[[], object]) -> None:
        if self._error is None:
            try:
                act()
            except OSError as error:
                self._error = error


# torch.export asks whether a file is one of these before it writes.
io.IOBase.register(LibraryFile)


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """In this block, signals that would end it are only noted; their handlers run after it."""
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
