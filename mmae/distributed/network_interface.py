"""The network interface that leads to the other nodes.

gloo announces the address that the host's own name resolves to. On many machines that is 127.0.1.1, which no other
machine can reach.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final

_SIOCGIFADDR: Final = 0x8915
_LONGEST_NAME: Final = 15


def choose_interface(environment: MutableMapping[str, str]) -> None:
    """Set GLOO_SOCKET_IFNAME to the interface that leads to MASTER_ADDR, unless it is set or the ranks meet here."""
    if "GLOO_SOCKET_IFNAME" not in environment and (name := interface_to(environment.get("MASTER_ADDR", ""))):
        environment["GLOO_SOCKET_IFNAME"] = name


def interface_to(host: str) -> str | None:
    """The interface that leads to an IPv4 host; None if it is unknown, or the loopback interface."""
    if not host:
        return None
    try:
        _, own = own_address(host, socket.AF_INET)
    except OSError:
        return None
    return None if is_loopback(own) else interface_of(own) or None


def own_address(host: str, family: socket.AddressFamily = socket.AF_UNSPEC) -> tuple[socket.AddressFamily, str]:
    """The address from which this machine sends to a host, as its routes say. Nothing is sent.

    Raises:
        OSError: the host's name is unknown, or no route leads there.
    """
    family, kind, _, _, there = socket.getaddrinfo(host, 9, family, socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(there)
        return family, str(probe.getsockname()[0])


def is_loopback(address: str) -> bool:
    """Whether an IPv4 or IPv6 address leads each machine to itself; False for text that is not an address."""
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def free_port() -> int:
    """A TCP port that nobody holds now: another training on this machine may hold a default one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def interface_of(address: str) -> str:
    """The interface that has an IPv4 or IPv6 address; "" if no interface has it."""
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
