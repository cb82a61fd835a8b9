"""The process that a user starts and signals. It works in a child that outlives it, and stops the ranks then.

No process can catch SIGKILL. If a launcher that is killed were the one that supervises the ranks, they would train on
with nobody to stop them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from mmae.processes import die_with_parent

REQUESTS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)
"""Signals that ask a training to save and stop."""


def in_child(work: Callable[[], int]) -> int:
    """The exit status of `work`, which runs in a child in a process group of its own.

    The child gets the signals of `blocked`, which it has to wait for, and SIGTERM when this process is killed.
    """
    numbers = blocked()
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        # A terminal's Ctrl-C then reaches the foreground process alone, which passes it on.
        os.setpgid(0, 0)
        die_with_parent(signal.SIGTERM, parent)
        return work()
    return _pass_signals_on(child, numbers)


def blocked() -> frozenset[signal.Signals]:
    """SIGCHLD, and those requests that this process was not started to ignore, as `nohup` does."""
    return frozenset({signal.SIGCHLD, *(each for each in REQUESTS if signal.getsignal(each) is not signal.SIG_IGN)})


def _pass_signals_on(child: int, numbers: frozenset[signal.Signals]) -> int:
    while True:
        number = signal.sigwait(numbers)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return as_in_shell(os.waitstatus_to_exitcode(status))


def as_in_shell(status: int) -> int:
    """The exit status as a shell counts it: a death by signal N is 128 + N, which Python writes as -N."""
    return 128 - status if status < 0 else status
