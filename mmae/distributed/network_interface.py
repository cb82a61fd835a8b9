"""The network interface that leads to the other nodes.

gloo announces the address that a host's own name resolves to, on many machines 127.0.1.1, where nobody else finds it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

_SIOCGIFADDR: Final = 0x8915
_LONGEST_NAME: Final = 15


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
        own = str(probe.getsockname()[0])
    return None if own.startswith("127.") else interface_of(own) or None


def interface_of(address: str) -> str:
    """The interface with an IPv4 or IPv6 address; "" if there is none."""
    if ":" in address:
        wanted = socket.inet_pton(socket.AF_INET6, address.partition("%")[0]).hex()
        rows = (line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines())
        return next((row[5] for row in rows if row[0] == wanted), "")
    return next((name for _, name in socket.if_nameindex() if _ipv4(name) == address), "")


def _ipv4(interface: str) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        asked = struct.pack("256s", interface.encode()[:_LONGEST_NAME])
        try:
            return socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, asked)[20:24])
        except OSError:
            return ""
