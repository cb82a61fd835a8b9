"""Run a command that starts ranks, to its end: pass requests to stop on, kill ranks that do not stop, start again.

A signal to `deepspeed` ends only that program: its ranks live on as orphans, or are killed while they save. Here it
runs in a process group of its own, and signals are passed to the ranks alone. Exit statuses: 0 done or stopped well,
2 bad input, 3 lost numbers, 4 lost rank, 128 + N killed by signal N.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Mapping
from typing import Final

from mmae.errors import EXIT_LOST_RANK, InputError
from mmae.launch.supervision.foreground import blocked, in_child
from mmae.launch.supervision.launched_job import Job

GRACE_S: Final = 300.0
PAUSE_S: Final = 5.0
_LOOK_S: Final = 0.5
_SIGNAL: Final = 128
"""Exit statuses above are of processes that a signal ended."""
_STOPPED_EARLY: Final = _SIGNAL + signal.SIGTERM


def supervise(job: Job, restarts: int) -> int:
    """Run a job in a child of this process, which stops the ranks also when this process is killed.

    Args:
        restarts: how often it may start again when a rank was lost.

    Returns:
        the exit status.

    Raises:
        InputError: MMAE_GRACE or MMAE_PAUSE is not a number of seconds.
    """
    grace, pause = seconds(os.environ, "MMAE_GRACE", GRACE_S), seconds(os.environ, "MMAE_PAUSE", PAUSE_S)

    def work() -> int:
        with job:
            return job.conclude(Supervisor(job, grace, pause).run(restarts))

    return in_child(work)


def seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    """The number of seconds in a variable.

    Raises:
        InputError: its text is not a number of seconds.
    """
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{name}={text}: not a number of seconds, as in {name}={default:g}")
    return value


class Supervisor:
    """One launch: a job that is started, asked to stop, and started again.

    It waits for signals instead of handling them: they have to be blocked (`foreground.blocked`).

    Args:
        job: what is started.
        grace: seconds that the ranks have to save and stop once they are asked to.
        pause: seconds before the first restart; they double each time.
    """

    def __init__(self, job: Job, grace: float, pause: float) -> None:
        self._job = job
        self._grace = grace
        self._pause = pause
        self._deadline = math.inf
        self._signals = blocked()

    def run(self, restarts: int) -> int:
        """The exit status of the last start."""
        # Distinguishes a restart from a start of an earlier launch.
        os.environ["MMAE_LAUNCH"] = f"{socket.gethostname()}-{os.getpid()}-{time.time():.0f}"
        self._wait(0)
        if self._job.stopping:
            return _STOPPED_EARLY
        number = 0
        while True:
            number += 1
            status = self._run_once()
            if self._job.stopping or status != EXIT_LOST_RANK or number > restarts:
                return status
            pause = self._pause * 2 ** (number - 1)
            self._job.say(f"lost a rank: restart {number} of {restarts} in {pause:g} s, from the last checkpoint")
            # --resume and --fresh are for the first start only. A restart follows them only if that start did not.
            os.environ["MMAE_RESTARTS"] = str(number)
            if self._asked_to_stop_within(pause):
                return status

    def _run_once(self) -> int:
        job = self._job
        job.start()
        while (status := job.poll()) is None:
            if time.monotonic() >= self._deadline:
                job.say(f"the ranks did not stop within {self._grace:g} s and are killed; "
                        "the last checkpoint is untouched")  # fmt: skip
                job.kill()
            self._wait(_LOOK_S)
        status = job.finish(status)
        if not job.stopping and status > _SIGNAL:
            job.say(f"a rank was killed by signal {status - _SIGNAL}")
            status = EXIT_LOST_RANK
        if status:
            job.say_first_error()
        return status

    def _asked_to_stop_within(self, pause: float) -> bool:
        end = time.monotonic() + pause
        while not self._job.stopping and (left := end - time.monotonic()) > 0:
            self._wait(left)
        return bool(self._job.stopping)

    def _wait(self, most: float) -> None:
        """Wait so many seconds, or until a child ends or somebody asks the training to stop."""
        found = signal.sigtimedwait(self._signals, most)
        if found is not None and found.si_signo != signal.SIGCHLD:
            self._stop(signal.Signals(found.si_signo))

    def _stop(self, number: signal.Signals) -> None:
        # A terminal that is gone is a reason to stop like any other: ranks know SIGTERM for that.
        number = signal.SIGTERM if number == signal.SIGHUP else number
        self._job.stopping = number.name
        if self._deadline == math.inf:
            self._grace = self._job.seconds_to_stop(number, self._grace)
            self._deadline = time.monotonic() + self._grace
            self._job.say(f"{number.name}: the ranks save and stop, within {self._grace:g} s (MMAE_GRACE)")
        if not self._job.ask(number):
            self._job.end_early()
