"""DeepSpeed's hostfile, read as strictly as names need that a program is given as words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.errors import InputError
from mmae.regular_file import read_regular_text

_NAME: Final = re.compile(r"(?:[A-Za-z_][\w.-]*@)?[A-Za-z0-9](?:[A-Za-z0-9._:-]*[A-Za-z0-9])?", re.ASCII)
"""A host or address, perhaps with a user: nothing that ssh or a shell could take for an option or more than a word."""
_LINE: Final = re.compile(r"(\S+)\s+slots=(\d{1,6})\s*(?:#.*)?", re.ASCII)
_LONGEST: Final = 253


@dataclass(frozen=True)
class Host:
    """A line of a hostfile: how ssh reaches the host, and how many ranks it runs (None: it is not said)."""

    name: str
    slots: int | None = None

    @property
    def address(self) -> str:
        """Without the user."""
        return self.name.rpartition("@")[2]


def read_hostfile(path: Path) -> list[Host]:
    """The hosts in their order; the first is the one that all others connect to.

    Raises:
        InputError: no such file, or a line that is not `NAME slots=N`, an unfit name, a host said twice, no host.
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
            raise InputError(f"{path}:{number}: {host.name} stands here twice: give each host one line")
        found[host.name] = host
    if not found:
        raise InputError(f"{path}: names no host: write a line NAME slots=N for each")
    return list(found.values())


def is_host_name(text: str) -> bool:
    """Whether it is a host's name or address, perhaps with a user, and nothing else to any program that is given it."""
    return len(text) <= _LONGEST and _NAME.fullmatch(text) is not None


def _host(line: str, where: str) -> Host:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InputError(f"{where}: {line[:80]!r} is not NAME slots=N, as in: node-1 slots=8")
    name, slots = match[1], int(match[2])
    if not is_host_name(name):
        raise InputError(f"{where}: {name[:80]!r} is no host name: letters, digits, dots and dashes, perhaps USER@")
    if slots < 1:
        raise InputError(f"{where}: {name} has no slot: give it at least one, or take the line out")
    return Host(name, slots)
