"""The worker's side of the pool: it takes tasks from a pipe, reports its progress, and ends with its parent."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Any, Final, Protocol

from mmae.errors import InputError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_TELL_SECONDS: Final = 0.2


class Tally(Protocol):
    """A counter of progress."""

    def add(self, tiles: int, read: int) -> None:
        """Count more tiles, and the bytes that were read for them."""


Work = Callable[[Any, Tally], Any]
"""It is called with each task. It must be picklable, because each process gets a copy at its start."""


class Ready:
    """The process has started and wants a task. Sending one earlier would block until it has started."""


@dataclass(frozen=True)
class Progress:
    tiles: int
    read: int


@dataclass(frozen=True)
class Result:
    result: Any


@dataclass(frozen=True)
class Failure:
    error: BaseException


class _Teller:
    """A worker's tally, which reports to the parent now and then."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._tiles = self._read = 0
        self._told = time.monotonic()

    def add(self, tiles: int, read: int) -> None:
        self._tiles += tiles
        self._read += read
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        if self._tiles or self._read:
            self._pipe.send(Progress(self._tiles, self._read))
        self._tiles = self._read = 0
        self._told = time.monotonic()


def serve(pipe: Connection, work: Work) -> None:
    """Do tasks from the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_die_with_parent, daemon=True).start()
    teller = _Teller(pipe)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has no more tasks
        pipe.send(Ready())
        while True:
            task = pipe.recv()
            try:
                answer: Result | Failure = Result(work(task, teller))
            except InputError as error:
                answer = Failure(InputError(str(error)))
            except Exception:  # sent as text: tracebacks and some exceptions cannot be pickled
                answer = Failure(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))
            teller.tell()
            pipe.send(answer)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        # `sys.exit` would let the main thread finish the shard that it is writing.
        os._exit(1)
