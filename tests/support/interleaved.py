"""Threads that take turns at their file operations, in an order drawn from a seed: a race happens again when asked.

Each stands for a process. Some are killed at an operation: they do nothing more, their cleaning up included. The clock
of each goes by its own sleeps alone, so that a busy machine changes nothing.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

OPERATIONS: Final = ("open", "link", "rename", "unlink", "stat", "write")


class _KilledError(BaseException):
    """Ends the thread of a process that was killed."""


class Processes:
    """Starts of one function, each by a number that it is given."""

    def __init__(self, seed: int, kills: float) -> None:
        """Draw from a seed; `kills` is the chance of each turn to be a process's last."""
        self._random = random.Random(seed)
        self._kills = kills
        self._turn: dict[threading.Thread, threading.Semaphore] = {}
        self._number: dict[threading.Thread, int] = {}
        self._slept: dict[threading.Thread, float] = {}
        self._back = threading.Semaphore(0)
        self._over = False
        self.killed: set[int] = set()

    def current(self) -> int | None:
        """The number of the process that asks; None outside of them."""
        return self._number.get(threading.current_thread())

    def run(self, start: Callable[[int], None], processes: int) -> None:
        """Run them to their end."""
        for number in range(processes):
            thread = threading.Thread(target=self._run_one, args=(start, number))
            self._turn[thread] = threading.Semaphore(0)
            self._number[thread] = number
            self._slept[thread] = 0.0
        with self._patched():
            for thread in self._turn:
                thread.start()
            while waiting := [each for each, number in self._number.items() if number not in self.killed]:
                thread = self._random.choice(waiting)
                if self._random.random() < self._kills:
                    self.killed.add(self._number[thread])
                    continue
                self._turn[thread].release()
                self._back.acquire()
            self._over = True
            for thread in self._turn:
                self._turn[thread].release()
            for thread in self._turn:
                thread.join()

    def _run_one(self, start: Callable[[int], None], number: int) -> None:
        turn = self._turn[threading.current_thread()]
        turn.acquire()
        try:
            if number not in self.killed:
                start(number)
        except _KilledError:
            return
        finally:
            self._number.pop(threading.current_thread())
            self._back.release()

    def _wait_for_turn(self) -> None:
        thread = threading.current_thread()
        if thread not in self._number:
            return
        if not self._over:
            self._back.release()
            self._turn[thread].acquire()
        if self._over:
            raise _KilledError

    @contextmanager
    def _patched(self) -> Iterator[None]:
        def in_turn(call: Callable[..., Any]) -> Callable[..., Any]:
            def wait_and_call(*args: Any, **named: Any) -> Any:
                self._wait_for_turn()
                return call(*args, **named)

            return wait_and_call

        sleep, monotonic = time.sleep, time.monotonic

        def sleep_by_turns(seconds: float) -> None:
            if self.current() is None:
                sleep(seconds)
                return
            self._slept[threading.current_thread()] += seconds
            self._wait_for_turn()

        def clock() -> float:
            return monotonic() if self.current() is None else self._slept[threading.current_thread()]

        calls: dict[str, Any] = {name: in_turn(getattr(os, name)) for name in OPERATIONS}
        with (
            patch.multiple(os, fsync=lambda descriptor: None, **calls),
            patch.multiple(time, sleep=sleep_by_turns, monotonic=clock),
        ):
            yield
