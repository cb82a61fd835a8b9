"""TCP probe: whether a process on another machine still lives, however busy it is.

The kernel accepts connections to a port that the process listens on. It refuses them once the process has ended, and
nothing answers if the machine is down or cut off.
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
"""A short failure of the network must not end a training: all attempts take 16 s."""
_WAITING: Final = 1024
_AT_ONCE: Final = 32


class Listener:
    """A port of this process on the address that leads to another host. It is open as long as the process lives."""

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
                # The process may have too many open files for a moment.
                time.sleep(_AGAIN_S)


def unreachable(places: Iterable[tuple[str, int]]) -> list[bool]:
    """Which of these addresses and ports do not answer; all are tried at once."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda place: not answers_tcp(*place), places))


def answers_tcp(address: str, port: int) -> bool:
    """Whether a listener accepts a connection; takes seconds if nothing answers. Port 0 counts as yes."""
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
