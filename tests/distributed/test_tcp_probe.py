"""A process that others can reach while it lives, and how it looks when it does not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mmae.distributed import tcp_probe
from mmae.distributed.tcp_probe import Listener, answers_tcp, unreachable

PROGRAM = """
import sys
from mmae.distributed.tcp_probe import Listener
made = Listener("127.0.0.1")
print(made.address, made.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_process_is_reached_while_it_lives_stopped_or_not() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            address, port = process.stdout.readline().split()
            assert answers_tcp(address, int(port))
            os.kill(process.pid, signal.SIGSTOP)
            assert unreachable([(address, int(port))] * 3) == [False] * 3
        finally:
            process.kill()
            process.wait()
    # At once: it does not wait to try again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", pytest.fail)
        assert not answers_tcp(address, int(port))


def test_where_nothing_answers_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def nothing(*place: object, timeout: float) -> None:
        tries.append(place)
        raise TimeoutError

    monkeypatch.setattr(tcp_probe, "_AGAIN_S", 0.0)
    monkeypatch.setattr(socket, "create_connection", nothing)
    assert not answers_tcp("10.0.0.1", 1)
    assert len(tries) == 3


def test_a_process_that_could_not_listen_is_not_suspected() -> None:
    made = Listener("no.such.host.invalid")
    assert made.port == 0
    assert answers_tcp(made.address, made.port)
