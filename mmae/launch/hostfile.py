"""DeepSpeed's hostfile. Its names become words of a command line, so only safe ones are accepted."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.disk.regular_file import read_regular_text
from mmae.distributed.network_interface import is_loopback
from mmae.errors import InputError, did_you_mean

_NAME: Final = re.compile(r"(?:[A-Za-z_][\w.-]*@)?[A-Za-z0-9](?:[A-Za-z0-9._:-]*[A-Za-z0-9])?", re.ASCII)
"""A host or address, perhaps with a user. ssh and shells take it for one plain word, never for an option."""
_LINE: Final = re.compile(r"(\S+)\s+slots=(\d{1,6})\s*(?:#.*)?", re.ASCII)
_LONGEST: Final = 253

Slots = dict[str, int]


@dataclass(frozen=True)
class Host:
    """A line of a hostfile: the name by which ssh reaches the host, and the ranks it runs (None: not given)."""

    name: str
    slots: int | None = None

    @property
    def address(self) -> str:
        """The name without the user."""
        return self.name.rpartition("@")[2]


def read_hostfile(path: Path) -> list[Host]:
    """The hosts in their order; the first is the one that all others connect to.

    Raises:
        InputError: the file is missing or empty, a line is not `NAME slots=N`, or a name is unsafe or occurs twice.
    """
    try:
        text = read_regular_text(path)
    except (OSError, UnicodeDecodeError) as error:
        why = "no such hostfile" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise InputError(f"{path}: {why}: see launchers/hostfile.example") from error
    found: dict[str, Host] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        host = _host(line, f"{path}:{number}")
        if host.name in found:
            raise InputError(f"{path}:{number}: {host.name} occurs twice: give each host one line")
        found[host.name] = host
    if not found:
        raise InputError(f"{path}: names no host: write a line NAME slots=N for each")
    return list(found.values())


def is_host_name(text: str) -> bool:
    """Whether a text is the name or address of a host, perhaps with a user, that is safe on a command line."""
    return len(text) <= _LONGEST and _NAME.fullmatch(text) is not None


def _host(line: str, where: str) -> Host:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InputError(f"{where}: {line[:80]!r} is not NAME slots=N, as in: node-1 slots=8")
    name, slots = match[1], int(match[2])
    if not is_host_name(name):
        rule = "use letters, digits, dots and dashes, perhaps after USER@"
        raise InputError(f"{where}: {name[:80]!r} is not a host name: {rule}")
    if slots < 1:
        raise InputError(f"{where}: {name} has no slot: give it at least one, or remove the line")
    return Host(name, slots)


def read_slots(path: Path) -> Slots:
    """Host -> ranks it runs, in the file's order.

    Raises:
        InputError: the file is missing, or DeepSpeed, ssh or a shell would refuse a line.
    """
    return {host.name: host.slots or 1 for host in read_hostfile(path)}


def slots_used(
    slots: Slots, include: str = "", exclude: str = "", nodes: int | None = None, gpus: int | None = None
) -> dict[str, list[int]]:
    """Host -> the slots that DeepSpeed starts ranks on, as it counts them. The ranks meet at the first host.

    Args:
        nodes: `--num_nodes`; with `--num_gpus` alone, more than there are.
        gpus: `--num_gpus`.

    Raises:
        InputError: a filter names an unknown host or slot, or leaves nothing; or `gpus` exceeds the slots of a host,
            which DeepSpeed would accept and use them all.
    """
    if include and exclude:
        raise InputError("--include and --exclude: give one of them")
    if nodes is not None and (include or exclude):
        raise InputError("--num_nodes and --num_gpus do not go with --include or --exclude")
    named = _named(include or exclude, slots) if include or exclude else {}
    if include:
        return {host: sorted(named[host]) for host in slots if host in named}
    left = {host: [slot for slot in range(slots[host]) if slot not in named.get(host, ())] for host in slots}
    hosts = [host for host in slots if left[host]][:nodes]
    if not hosts:
        raise InputError(f"--exclude {exclude}: leaves no host")
    if gpus is not None and gpus > 0:
        if few := [host for host in hosts if slots[host] < gpus]:
            raise InputError(f"--num_gpus {gpus}: {few[0]} has {slots[few[0]]} slots in the hostfile")
        return {host: list(range(gpus)) for host in hosts}
    return {host: left[host] for host in hosts}


def refuse_ipv6(hosts: Sequence[str]) -> None:
    """Refuse hosts that pdsh misreads: to pdsh the text before a colon names a way to reach the host.

    Raises:
        InputError: a host is an IPv6 address.
    """
    if wrong := [host for host in hosts if ":" in host]:
        raise InputError(
            f"{wrong[0]}: pdsh accepts no IPv6 address: give the host a name, in DNS, /etc/hosts or ~/.ssh/config "
            "(HostName), and write that into the hostfile; or start by --no_ssh on every node"
        )


def _named(text: str, slots: Slots) -> Mapping[str, set[int]]:
    """`a@b:0,2` -> host -> its slots, all of them where none is named."""
    named: dict[str, set[int]] = {}
    for part in text.split("@"):
        host, _, numbers = part.partition(":")
        if host not in slots:
            raise InputError(f"{text}: the hostfile has no host {host!r}{did_you_mean(host, slots)}")
        if numbers and not re.fullmatch(r"\d+(,\d+)*", numbers):
            raise InputError(f"{text}: {numbers!r} are not slots: write {host}:0,2")
        chosen = {int(number) for number in numbers.split(",")} if numbers else set(range(slots[host]))
        if beyond := [number for number in chosen if number >= slots[host]]:
            raise InputError(f"{text}: {host} has slots 0 to {slots[host] - 1}, not {beyond[0]}")
        named.setdefault(host, set()).update(chosen)
    return named


def meeting_place(hosts: list[str], override: str = "", resolve: Callable[[str], list[str]] | None = None) -> str:
    """The address that all ranks reach the first host at.

    Args:
        override: MASTER_ADDR.
        resolve: gives the addresses of a name; by default the system's resolver.

    Raises:
        InputError: the address is a loopback one, which leads each host to itself, or it is unknown.
    """
    name = override or hosts[0].rpartition("@")[2]
    if len(hosts) == 1:
        return name
    advice = "set MASTER_ADDR to the name or address that the other nodes reach it at"
    try:
        addresses = (resolve or _addresses)(name)
    except OSError as error:
        raise InputError(f"{name}: its address is not known here ({error}): {advice}") from None
    if wrong := [address for address in addresses if is_loopback(address)]:
        raise InputError(
            f"{name} resolves to {wrong[0]}, where other nodes would look for it on themselves: correct /etc/hosts, or "
            + advice
        )
    return name


def _addresses(name: str) -> list[str]:
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
