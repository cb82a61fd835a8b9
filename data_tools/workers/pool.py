"""Worker processes that take tasks one by one, report their progress, and end with the process that started them.

`concurrent.futures.ProcessPoolExecutor` cannot replace this code: when a worker is killed while it sends a result, the
executor waits for the rest of it for ever, because all workers share one pipe. Here each worker has a pipe of its own:
a killed worker is noticed at once and named with its task. An interrupt ends everything within a moment.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from multiprocessing import connection, get_context, resource_tracker
from typing import Any, Final

from data_tools.workers.worker import Failure, Progress, Result, Tally, Work, serve
from mmae.errors import InputError

__all__ = ["Tally", "Work", "available_cores", "in_processes", "processes"]

_GRACE_SECONDS: Final = 2.0
_ALWAYS_ALLOWED: Final = 64
_A_CORE: Final = 4


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(asked: int | None) -> int:
    """The number of worker processes for a value of `--workers`; without a value, one a core.

    Raises:
        InputError: the number is less than 1, or too large for a machine.
    """
    if asked is None:
        return available_cores()
    if asked < 1:
        raise InputError(f"--workers {asked}: must be at least 1")
    most = max(_ALWAYS_ALLOWED, _A_CORE * available_cores())
    if asked > most:
        raise InputError(f"--workers {asked}: at most {most} here: more than one a core are of no use")
    return asked


def in_processes(
    work: Work, tasks: Iterable[Any], workers: int, tally: Tally, name: Callable[[Any], str] = str
) -> Generator[tuple[Any, Any], None, None]:
    """Each task and its result `work(task, tally)`, in the order in which they are done.

    Close the generator (`contextlib.closing`) if it may be left early.

    Args:
        tasks: taken when they are needed, so that not all must be in memory.
        workers: number of processes. With 1, this process does all the work.
        name: the name of a task in the message on a killed process.

    Raises:
        InputError: `work` raised it, or a worker process was killed.
    """
    if workers == 1:
        yield from ((task, work(task, tally)) for task in tasks)
        return
    waiting = _Waiting(tasks)
    pool: list[_Worker] = []
    try:
        # No more processes than tasks: each takes half a second to start.
        while len(pool) < workers and waiting.peek(len(pool)):
            pool.append(_Worker(work))
        while pool:
            for worker in _with_news(pool):
                yield from _listen(worker, pool, waiting, tally, name)
            tally.add(0, 0)
    finally:
        _end(pool)


class _Waiting:
    """The tasks that no worker has taken yet."""

    def __init__(self, tasks: Iterable[Any]) -> None:
        self._tasks = iter(tasks)
        self._made: deque[Any] = deque()

    def peek(self, number: int) -> bool:
        """Whether there are more than `number` tasks; creates no more of them than that needs."""
        self._made.extend(islice(self._tasks, number + 1 - len(self._made)))
        return len(self._made) > number

    def take(self) -> Any:
        """The next task; None if all are taken."""
        return self._made.popleft() if self._made else next(self._tasks, None)


def _with_news(pool: list[_Worker]) -> list[_Worker]:
    ready = connection.wait([worker.pipe for worker in pool], timeout=1.0)
    return [worker for worker in pool if worker.pipe in ready]


def _listen(
    worker: _Worker, pool: list[_Worker], waiting: _Waiting, tally: Tally, name: Callable[[Any], str]
) -> Iterator[tuple[Any, Any]]:
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError):
        raise InputError(worker.obituary(name)) from None
    if isinstance(message, Progress):
        tally.add(message.tiles, message.read)
        return
    if isinstance(message, Failure):
        raise message.error
    done, task = worker.task, waiting.take()
    if task is None:
        pool.remove(worker)
        worker.dismiss()
    else:
        worker.give(task)
    if isinstance(message, Result):
        yield done, message.result


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, work: Work) -> None:
        context = get_context("spawn")  # h5py and Blosc2 hold threads and locks that a fork would copy half-way
        self.pipe, child = context.Pipe()
        self._process = context.Process(target=serve, args=(child, work), daemon=True)
        # An interrupt from the keyboard reaches all processes, but only the parent must act on it. The tracker is
        # started before, because its start unblocks interrupts.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            child.close()
        self.task: Any = None

    def give(self, task: Any) -> None:
        self.task = task
        with suppress(BrokenPipeError, ConnectionResetError):  # it was killed, which the next read notices
            self.pipe.send(task)

    def obituary(self, name: Callable[[Any], str]) -> str:
        """The message when its pipe has broken."""
        self._process.join(_GRACE_SECONDS)
        code = self._process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        where = f" while it was at {name(self.task)}" if self.task is not None else ""
        return f"a worker process {how}{hint}{where}: run again, with fewer --workers if memory is short"

    def dismiss(self) -> None:
        self.pipe.close()
        self._process.join(_GRACE_SECONDS)
        self.kill()

    def kill(self) -> None:
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()


def _end(pool: list[_Worker]) -> None:
    for worker in pool:
        worker.pipe.close()
    for worker in pool:
        worker.kill()
