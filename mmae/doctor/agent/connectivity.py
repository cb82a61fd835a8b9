"""Which way packets go between hosts, and whether they arrive: a listener that answers those who know its token."""

from __future__ import annotations

import hashlib
import hmac
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

from mmae.distributed.network_interface import interface_of, own_address

TIMEOUT_S: Final = 4.0
_LONGEST: Final = 256
_BACKLOG: Final = 128


@dataclass(frozen=True)
class Route:
    """How a host reaches another: its own address and interface on the way, or what is wrong."""

    to: str
    address: str
    interface: str
    problem: str


@dataclass(frozen=True)
class Reached:
    """A connection that was tried: milliseconds, or what is wrong."""

    address: str
    milliseconds: float
    problem: str


class Listener:
    """Answers on a free port of every address until it is closed, one caller at a time."""

    def __init__(self, token: str) -> None:
        self._token = token
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        self._socket = socket.create_server(
            ("", 0), family=family, backlog=_BACKLOG, dualstack_ipv6=family == socket.AF_INET6
        )
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, name="doctor listener", daemon=True).start()

    def close(self) -> None:
        # Closing alone would leave the thread in accept().
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            with closing(caller):
                try:
                    caller.settimeout(TIMEOUT_S)
                    if hmac.compare_digest(_line(caller), self._token.encode()):
                        caller.sendall(answer_to(self._token) + b"\n")
                except OSError:
                    continue


def connect(address: str, port: int, token: str, timeout_s: float = TIMEOUT_S) -> Reached:
    """Try a listener. The answer proves that it was this one and not whoever sits at that port."""
    began = time.monotonic()
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as caller:
            reached = str(caller.getpeername()[0])
            caller.sendall(token.encode() + b"\n")
            if not hmac.compare_digest(_line(caller), answer_to(token)):
                return Reached(reached, 0.0, f"somebody else answers at {reached}")
    except OSError as error:
        return Reached("", 0.0, str(error.strerror or error))
    return Reached(reached, (time.monotonic() - began) * 1000, "")


def answer_to(token: str) -> bytes:
    return hashlib.sha256(b"mmae doctor " + token.encode()).hexdigest().encode()


def route_to(name: str) -> Route:
    """Asks the kernel, without a packet."""
    try:
        _, address = own_address(name)
    except OSError as error:
        return Route(name, "", "", str(error.strerror or error))
    return Route(name, address, interface_of(address), "")


def _line(peer: socket.socket) -> bytes:
    """Up to a line's end, no longer than it may be, and not longer on the way than `TIMEOUT_S` altogether."""
    deadline, found = time.monotonic() + TIMEOUT_S, b""
    while b"\n" not in found and len(found) < _LONGEST and time.monotonic() < deadline:
        part = peer.recv(_LONGEST)
        if not part:
            break
        found += part
    return found.partition(b"\n")[0]
