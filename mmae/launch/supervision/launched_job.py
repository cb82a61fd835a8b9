"""A command that starts ranks, in a process group of its own, and how its ranks are reached."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from mmae.launch.supervision.foreground import as_in_shell
from mmae.processes import die_with_parent

LARGEST: Final = 192
"""Above it an exit status is 256 - N: how DeepSpeed's launch process ends where a rank died by signal N."""


class Job(AbstractContextManager["Job"]):
    """The command of one launch, which is started again at each restart. Subclasses ask the ranks to stop.

    Args:
        name: the launcher's name, which its messages begin with.
        command: starts the ranks, and ends when they have ended.

    Attributes:
        stopping: name of the last signal that asked it to stop; empty for none.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.command = list(command)
        self.stopping = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(self, *_: object) -> None:
        self.kill()

    def say(self, line: str) -> None:
        """A message for people."""
        with suppress(OSError):
            print(f"{self.name}: {line}", file=sys.stderr, flush=True)

    def start(self) -> None:
        """Start the command."""
        self._process = popen(self.command)

    def poll(self) -> int | None:
        """The command's exit status, as a shell counts it; None while it runs."""
        assert self._process is not None
        status = self._process.poll()
        return None if status is None else as_in_shell(status)

    @abstractmethod
    def ask(self, number: signal.Signals) -> bool:
        """Ask the ranks to save and stop; False if there are none yet, and so nothing to save."""

    def end_early(self) -> None:
        """End the command before there are ranks."""
        self._signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the command and its ranks, as far as they still run: they would go on writing beside a later start."""
        self._signal_group(signal.SIGKILL)

    def seconds_to_stop(self, _: signal.Signals, grace: float) -> float:
        """How long the ranks may take to stop after a signal.

        Args:
            grace: how long they may take at most.
        """
        return grace

    def finish(self, status: int) -> int:
        """Clean up after the command has ended. Returns its exit status; 128 + N if a rank died by signal N."""
        self.kill()
        self._process = None
        return killed_rank(status)

    def say_first_error(self) -> None:
        """Repeat which error of the last start came first."""

    def conclude(self, status: int) -> int:
        """After the last start: the exit status of the launcher."""
        return status

    def _signal_group(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


def killed_rank(status: int) -> int:
    """128 + N where a rank died by signal N: DeepSpeed's launch process makes 256 - N of that."""
    return 384 - status if status > LARGEST else status


def popen(command: Sequence[str], *, pipe_errors: bool = False, output: int | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; it gets SIGTERM when this process is killed.

    Args:
        pipe_errors: its stderr is to be read here.
        output: where its stdout goes (subprocess.DEVNULL); None: to that of this process.
    """
    parent = os.getpid()

    def prepare() -> None:
        unblock_signals()
        die_with_parent(signal.SIGTERM, parent)

    return subprocess.Popen(
        command,
        process_group=0,
        stdout=output,
        preexec_fn=prepare,  # noqa: PLW1509 (no other thread runs at a start)
        stderr=subprocess.PIPE if pipe_errors else None,
    )


def unblock_signals() -> None:
    """Give a new process its signals back, which its supervisor has blocked for itself."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
