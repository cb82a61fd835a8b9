"""Routes between hosts, and whether connections succeed: a listener answers clients that know its token."""

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
    """How a host reaches another: its own address and interface on that route, or the problem."""

    to: str
    address: str
    interface: str
    problem: str


@dataclass(frozen=True)
class Reached:
    """A connection attempt: milliseconds, or the problem."""

    address: str
    milliseconds: float
    problem: str


class Listener:
    """Listens on a free port of every address until it is closed, and answers one client at a time."""

    def __init__(self, token: str) -> None:
        self._token = token
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        self._socket = socket.create_server(
            ("", 0), family=family, backlog=_BACKLOG, dualstack_ipv6=family == socket.AF_INET6
        )
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, name="doctor listener", daemon=True).start()

    def close(self) -> None:
        # Closing alone does not wake the thread in accept().
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
    """Connect to a listener. Its answer proves that it knows the token, and is not another program at that port."""
    began = time.monotonic()
    try:
        with socket.create_connection((address, port), timeout=timeout_s) as caller:
            reached = str(caller.getpeername()[0])
            caller.sendall(token.encode() + b"\n")
            if not hmac.compare_digest(_line(caller), answer_to(token)):
                return Reached(reached, 0.0, f"another program answers at {reached}")
    except OSError as error:
        return Reached("", 0.0, str(error.strerror or error))
    return Reached(reached, (time.monotonic() - began) * 1000, "")


def answer_to(token: str) -> bytes:
    return hashlib.sha256(b"mmae doctor " + token.encode()).hexdigest().encode()


def route_to(name: str) -> Route:
    """The route to a host, as the kernel says. Nothing is sent."""
    try:
        _, address = own_address(name)
    except OSError as error:
        return Route(name, "", "", str(error.strerror or error))
    return Route(name, address, interface_of(address), "")


def _line(peer: socket.socket) -> bytes:
    """Read one line, with a limit on its length and on the total time."""
    deadline, found = time.monotonic() + TIMEOUT_S, b""
    while b"\n" not in found and len(found) < _LONGEST and time.monotonic() < deadline:
        part = peer.recv(_LONGEST)
        if not part:
            break
        found += part
    return found.partition(b"\n")[0]
