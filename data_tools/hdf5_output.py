"""A new HDF5 file whose disk may fill up, and whose writer may be stopped: the HDF5 library never learns of either.

Once a write has failed the library can neither close the file nor forget it, and ends the process by a segmentation
fault. So it writes to a file here that says yes to everything, and the error is raised where nothing of HDF5 is left;
so is an interrupt, which could else come up in the middle of a write.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py


@contextmanager
def new_hdf5(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """The file, and what to call often: an error of the disk, or a signal, ends the block there.

    Raises:
        OSError: the disk is full, or fails.
    """
    import h5py

    with _signals_noted() as noted, path.open("x+b", buffering=0) as raw:
        output = _Output(raw)

        def check() -> None:
            output.check()
            if noted:
                raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))

        with h5py.File(output, "w") as file:
            yield file, check
        output.check()


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """In it signals that would end the block are only noted; what they do is done after it."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
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


class _Output:
    """A file in the sense of h5py. What follows a failed write is thrown away."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._error: OSError | None = None
        self.read, self.readinto, self.seek, self.tell = raw.read, raw.readinto, raw.seek, raw.tell

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._try(lambda: self._write_all(view))
        return len(view)

    def truncate(self, size: int) -> int:
        self._try(lambda: self._raw.truncate(size))
        return size

    def flush(self) -> None:
        """Nothing is held back."""

    def _write_all(self, view: memoryview) -> None:
        while view:
            view = view[self._raw.write(view) :]

    def _try(self, act: Callable[[], Any]) -> None:
        if self._error is None:
            try:
                act()
            except OSError as error:
                self._error = error
