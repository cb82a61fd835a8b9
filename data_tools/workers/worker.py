"""The worker's end of a pool: takes tasks from a pipe, tells how far it is, and ends when its parent does."""

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
    """Where work says how far it is."""

    def add(self, tiles: int, read: int) -> None:
        """So many tiles more, of so many bytes."""


Work = Callable[[Any, Tally], Any]
"""Called with a task; must be picklable, as it is sent to each process once."""


class Ready:
    """The process has started and wants a task: sending one earlier would wait for it to start."""


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
    """A worker's tally: speaks to the parent now and then."""

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
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_die_with_parent, daemon=True).start()
    teller = _Teller(pipe)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has no more use for it
        pipe.send(Ready())
        while True:
            task = pipe.recv()
            try:
                answer: Result | Failure = Result(work(task, teller))
            except InputError as error:
                answer = Failure(InputError(str(error)))
            except Exception:  # as text: not every exception, and no traceback, can be sent
                answer = Failure(RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))
            teller.tell()
            pipe.send(answer)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        # Not exit: the main thread may be in the middle of a shard, and must not go on to finish it.
        os._exit(1)
