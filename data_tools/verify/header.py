"""The check of tar headers, which are parsed by the standard library.

`tarfile.open` is not used: it stops at the first damaged header, and follows the sizes and links of a hostile one.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final

from mmae.data.shards.tar_layout import BLOCK, member_bytes

_ENCODING: Final = ("utf-8", "surrogateescape")
_PLAIN: Final = (tarfile.REGTYPE, tarfile.AREGTYPE)


class Headers:
    """Checks headers against the names and sizes of plain files.

    Nearly all headers are equal except for name, size and checksum. The equal part is parsed only once.
    """

    def __init__(self) -> None:
        self._sound: set[bytes] = set()

    def fault(self, header: bytes, name: str, size: int) -> str | None:
        """Why a header of 512 bytes is not that of a plain file with this name and size; None if it is."""
        rest = header[100:124] + header[136:148] + header[156:]
        if rest in self._sound and header[:100].rstrip(b"\0") == name.encode() and header[124:136] == b"%011o\0" % size:
            with suppress(ValueError):
                if int(header[148:156].rstrip(b"\0 "), 8) == sum(header) - sum(header[148:156]) + 8 * ord(" "):
                    return None
        fault = _parse(header, name, size)
        if fault is None:
            self._sound.add(rest)
        return fault


def _parse(header: bytes, name: str, size: int) -> str | None:
    try:
        member = tarfile.TarInfo.frombuf(header, *_ENCODING)
    except tarfile.HeaderError as error:
        return f"no tar header: {error}"
    if member.name != name:
        return f"its header names {member.name!r}{_hostile(member.name)}"
    if member.type not in _PLAIN:
        return "its header is that of a link or no plain file"
    return None if member.size == size else f"its header says {member.size} bytes, the index {size}"


def strays(descriptor: int, file_bytes: int, expected: Mapping[str, int]) -> Iterator[str]:
    """The faults that a usual tar reader meets as it goes from header to header.

    Args:
        expected: name of each member -> offset of its header.
    """
    at, seen = 0, set()
    while at + BLOCK <= file_bytes:
        header = os.pread(descriptor, BLOCK, at)
        if not any(header):
            return
        try:
            member = tarfile.TarInfo.frombuf(header, *_ENCODING)
        except tarfile.HeaderError as error:
            yield f"no tar header at byte {at}, a stock reader ends here ({error})"
            return
        name = member.name
        if member.type not in _PLAIN:
            yield f"member {name!r} at byte {at} is a link or no plain file{_hostile(name)}"
        elif name in seen:
            yield f"member {name!r} at byte {at} is there twice"
        elif name not in expected:
            yield f"member {name!r} at byte {at} is not in the index{_hostile(name)}"
        elif expected[name] != at:
            yield f"member {name!r} is at byte {at}, the index says {expected[name]}"
        seen.add(name)
        if member.size < 0 or at + member_bytes(member.size) > file_bytes:
            yield f"member {name!r} at byte {at} says that it has {member.size} bytes: it ends beyond the shard"
            return
        at += member_bytes(member.size)


def _hostile(name: str) -> str:
    path = PurePosixPath(name)
    outside = path.is_absolute() or len(path.parts) != 1 or ".." in path.parts
    return ", and would leave its folder" if outside else ""
