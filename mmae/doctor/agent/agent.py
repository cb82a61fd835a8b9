"""The program that runs on each host. It answers questions, one line of JSON each, until its input ends.

`python -m mmae.doctor.agent.agent NONCE`. Answers begin with NONCE, which separates them from a login shell's output.
At its end the agent removes what it has made (token files, a listener). It also ends when the connection breaks,
and after some minutes without a question, because a broken network may hide the end of its input.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final, NoReturn

from mmae.distributed import network_interface
from mmae.distributed.devices import usable_gpus
from mmae.doctor.agent import connectivity, facts, storage

IDLE_S: Final = 300.0
_TORCH_S: Final = 60.0


class Agent:
    """Each public method is a question, with its keyword arguments."""

    def __init__(self) -> None:
        self._tokens: dict[str, Path] = {}
        self._listener: connectivity.Listener | None = None

    def facts(self) -> object:
        return asdict(facts.gather())

    def torch_gpus(self) -> object:
        """Number of GPUs that torch can use; -1 if torch failed or took too long."""
        try:
            return usable_gpus(_TORCH_S, subprocess.DEVNULL)
        except (OSError, ValueError, subprocess.SubprocessError):
            return -1

    def clock(self) -> object:
        return time.time()

    def shards(self, folder: str) -> object:
        return asdict(storage.look_at_shards(folder))

    def run(self, folder: str) -> object:
        return asdict(storage.look_at_run(folder))

    def op_cache(self) -> object:
        return asdict(storage.look_at_op_cache())

    def write_token(self, folder: str, name: str) -> object:
        self._tokens[name] = storage.write_token(folder, name)
        return True

    def sees_token(self, folder: str, name: str) -> object:
        return storage.sees_token(folder, name)

    def listen(self, token: str) -> object:
        self.close_listener()
        self._listener = connectivity.Listener(token)
        return self._listener.port

    def connect(self, address: str, port: int, token: str) -> object:
        return asdict(connectivity.connect(address, port, token))

    def route(self, to: str) -> object:
        return asdict(connectivity.route_to(to))

    def free_port(self) -> object:
        return network_interface.free_port()

    def tidy(self) -> object:
        for path in self._tokens.values():
            path.unlink(missing_ok=True)
        self._tokens.clear()
        self.close_listener()
        return True

    def close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


QUESTIONS: Final = (
    "facts", "torch_gpus", "clock", "shards", "run", "op_cache", "write_token", "sees_token", "listen", "connect",
    "route", "free_port", "tidy",
)  # fmt: skip


def main(nonce: str, idle_s: float = IDLE_S) -> None:
    """Answer until the input ends, or no question comes for `idle_s` seconds."""
    agent = Agent()
    signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, idle_s)
    try:
        for line in sys.stdin:
            signal.setitimer(signal.ITIMER_REAL, 0)
            print(nonce, json.dumps(_answer(agent, json.loads(line))), flush=True)
            signal.setitimer(signal.ITIMER_REAL, idle_s)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        agent.tidy()


def _end(*_: object) -> NoReturn:
    raise SystemExit(1)


def _answer(agent: Agent, request: dict[str, object]) -> dict[str, object]:
    number, what = request.pop("number"), request.pop("ask")
    if what not in QUESTIONS:
        return {"number": number, "error": f"{what!r} is not a question"}
    question: Callable[..., object] = getattr(agent, str(what))
    try:
        return {"number": number, "answer": question(**request)}
    except (OSError, ValueError, TypeError) as error:
        return {"number": number, "error": str(error) or type(error).__name__}


if __name__ == "__main__":
    main(sys.argv[1])
