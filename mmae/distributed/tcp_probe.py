"""Whether a process of another machine still lives: its system answers for it, also while it is too busy to.

A connection to a port that it listens at is made by the system. It is refused once the process has ended, and comes to
nothing where its machine is down or cut off.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from mmae.distributed.network_interface import own_address

_CONNECT_S: Final = 4.0
_AGAIN_S: Final = 2.0
_TRIES: Final = 3
"""A network that is away for a moment is no reason to end a training: 16 s of trying."""
_WAITING: Final = 1024
_AT_ONCE: Final = 32


class Listener:
    """A port of this process, towards another host. It is there for as long as the process."""

    def __init__(self, towards: str) -> None:
        self.address, self.port = "", 0
        with suppress(OSError):
            family, self.address = own_address(towards)
            self._socket = socket.create_server((self.address, 0), family=family, backlog=_WAITING)
            self.port = int(self._socket.getsockname()[1])
            threading.Thread(target=self._hang_up, daemon=True, name="heartbeat port").start()

    def _hang_up(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                # Too many open files, for a moment.
                time.sleep(_AGAIN_S)


def unreachable(places: Iterable[tuple[str, int]]) -> list[bool]:
    """Of addresses and ports, all at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda place: not answers_tcp(*place), places))


def answers_tcp(address: str, port: int) -> bool:
    """Whether a listener can be connected to; seconds later where nothing answers. Port 0: not known, so it can."""
    if not port:
        return True
    for number in range(_TRIES):
        if number:
            time.sleep(_AGAIN_S)
        try:
            socket.create_connection((address, port), timeout=_CONNECT_S).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            continue
        else:
            return True
    return False
