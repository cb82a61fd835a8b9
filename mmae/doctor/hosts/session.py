"""A session with the agent of one host, on this machine or over ssh: one question at a time, each with a time limit."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TypeVar

from mmae.doctor.agent.messages import parse, parse_json
from mmae.launch.ssh import over_ssh, printable, reason

T = TypeVar("T")

HELLO_S: Final = 10.0
ANSWER_S: Final = 20.0
_LONGEST_LINE: Final = 1 << 20
_MOST_BANNER: Final = 1000
_END_S: Final = 2.0


class Unreachable(Exception):  # noqa: N818
    """A host that does not answer, and a remedy."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why, self.remedy = why, remedy


class Refused(Exception):  # noqa: N818
    """The agent answers that it could not do what it was asked."""


class Session:
    """A running agent. It starts with this object, and ends with `close`.

    Args:
        name: a host name that has been checked; None for this machine.
        environment: variables that ranks would get on that host.

    Raises:
        Unreachable: ssh is missing here.
    """

    def __init__(self, name: str | None, environment: Mapping[str, str]) -> None:
        self.name = name or "this machine"
        self._nonce = f"mmae-doctor-{secrets.token_hex(8)}"
        self._asked = 0
        self._said = b""
        self._lines: queue.Queue[bytes] = queue.Queue()
        command = [sys.executable, "-m", "mmae.doctor.agent.agent", self._nonce]
        try:
            self._process = subprocess.Popen(
                command if name is None else over_ssh(name, command, environment),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unreachable(f"ssh cannot be started ({error.strerror})", "install an ssh client here") from error
        self._reader, self._errors = (
            threading.Thread(target=read, name=f"doctor {self.name}", daemon=True)
            for read in (self._read_lines, self._read_errors)
        )
        self._reader.start()
        self._errors.start()

    def ask(self, kind: type[T], what: str, timeout_s: float = ANSWER_S, **about: object) -> T:
        """Ask a question of `mmae.doctor.agent.agent`; returns the answer as a `kind`.

        Raises:
            Unreachable: no answer came in time, or one of another type.
            Refused: the agent says why it cannot answer.
        """
        self._asked += 1
        request = {"number": self._asked, "ask": what, **about}
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error
        content = self._answer(timeout_s)
        match content:
            case {"number": self._asked, "error": str(why)}:
                raise Refused(printable(why))
            case {"number": self._asked, "answer": answer}:
                try:
                    return parse(kind, answer)
                except ValueError as error:
                    raise Unreachable(f"its answer is invalid: {error}", "put the same checkout there") from error
        raise Unreachable("its answer is invalid", "put the same checkout there")

    def close(self, grace_s: float = _END_S) -> None:
        """Let the agent clean up and end. A connection that hangs is killed after the grace."""
        process = self._process
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for reader, pipe in ((self._reader, process.stdout), (self._errors, process.stderr)):
            reader.join(_END_S)
            # A child that outlives its session may hold the pipe, and then closing would wait for the reader.
            if pipe is not None and not reader.is_alive():
                pipe.close()

    def _answer(self, timeout_s: float) -> object:
        deadline = time.monotonic() + timeout_s
        for _ in range(_MOST_BANNER):
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Unreachable(
                    f"no answer within {timeout_s:g} s", "is the host overloaded, or does a file system hang?"
                ) from None
            if not line:
                raise self._gone()
            mark, _, text = line.decode(errors="replace").partition(" ")
            if mark == self._nonce:
                try:
                    return parse_json(text)
                except ValueError as error:
                    raise Unreachable(f"its answer is invalid: {error}", "put the same checkout there") from error
        raise Unreachable("its login shell prints without end", "let its start files print only in interactive shells")

    def _gone(self) -> Unreachable:
        """Why the connection ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        self._errors.join(1.0)
        said = self._said.decode(errors="replace")
        return Unreachable(*reason(said, self.name))

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        for line in iter(lambda: self._process.stdout.readline(_LONGEST_LINE), b""):  # type: ignore[union-attr]
            # Endless output is read, so that the process can end, but not kept.
            if self._lines.qsize() < _MOST_BANNER:
                self._lines.put(line)
        self._lines.put(b"")

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in iter(lambda: self._process.stderr.readline(_LONGEST_LINE), b""):  # type: ignore[union-attr]
            self._said = (self._said + line)[-4096:]
