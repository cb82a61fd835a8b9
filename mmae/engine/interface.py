"""The network interface that leads to the other nodes.

gloo announces the address that a host's own name resolves to, on many machines 127.0.1.1, where nobody else finds it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import MutableMapping
from typing import Final

_SIOCGIFADDR: Final = 0x8915


def choose_interface(environment: MutableMapping[str, str]) -> None:
    """Set GLOO_SOCKET_IFNAME to where MASTER_ADDR is reached, unless it is set or the ranks meet on this machine."""
    if "GLOO_SOCKET_IFNAME" not in environment and (name := interface_to(environment.get("MASTER_ADDR", ""))):
        environment["GLOO_SOCKET_IFNAME"] = name


def interface_to(host: str) -> str | None:
    """The interface through which this machine reaches an IPv4 host; None if unknown, or itself by loopback."""
    if not host:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))  # sends nothing
        except OSError:
            return None
        own = probe.getsockname()[0]
        names = [name for _, name in socket.if_nameindex() if _address(probe, name) == own]
    return None if not names or own.startswith("127.") else names[0]


def _address(probe: socket.socket, name: str) -> str | None:
    try:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
    except OSError:
        return None
    return socket.inet_ntoa(answer[20:24])
