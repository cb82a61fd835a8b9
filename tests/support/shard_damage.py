"""Twenty-five ways to damage a folder of shards, each drawn at random."""

from __future__ import annotations

import os
import random
import shutil
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmae.data.shards.index import Index
from mmae.data.shards.tar_layout import BLOCK

CODECS = ("none", "fast", "small")


class Extent(NamedTuple):
    """A member in its shard: first byte, bytes with header and padding, payload bytes."""

    begin: int
    length: int
    size: int


class Sound(NamedTuple):
    """A shard folder as it was packed, its members by shard, and what its tiles hold."""

    folder: Path
    packed: Index
    members: dict[str, list[Extent]]
    tiles: list[dict[str, Any]]


Damage = Callable[[Path, Sound, random.Random], None]


def edit(path: Path, change: Callable[[bytearray], Any]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def flip(content: bytearray, at: int, draw: random.Random) -> None:
    content[at] ^= 1 << draw.randrange(8)


def some_shard(sound: Sound, draw: random.Random) -> str:
    return draw.choice(sorted(sound.members))


def some_member(sound: Sound, draw: random.Random) -> tuple[str, Extent]:
    shard = some_shard(sound, draw)
    return shard, draw.choice(sound.members[shard])


def flip_anywhere(folder: Path, sound: Sound, draw: random.Random) -> None:
    edit(folder / some_shard(sound, draw), lambda content: flip(content, draw.randrange(len(content)), draw))


def flip_in(part: str, folder: Path, sound: Sound, draw: random.Random) -> None:
    shard, member = some_member(sound, draw)
    end = BLOCK + member.size
    begin, end = {"header": (0, BLOCK), "payload": (BLOCK, end), "padding": (end, member.length)}[part]
    at = member.begin + (draw.randrange(begin, end) if begin < end else 0)
    edit(folder / shard, lambda content: flip(content, at, draw))


def flip_tail(folder: Path, sound: Sound, draw: random.Random) -> None:
    shard = some_shard(sound, draw)
    last = sound.members[shard][-1]
    edit(folder / shard, lambda content: flip(content, draw.randrange(last.begin + last.length, len(content)), draw))


def flip_index(name: str, folder: Path, sound: Sound, draw: random.Random) -> None:
    edit(folder / name, lambda content: flip(content, draw.randrange(len(content)), draw))


def change_index_text(folder: Path, sound: Sound, draw: random.Random) -> None:
    """What a hand or a script may do to the JSON: it stays JSON."""
    digits = "0123456789"

    def change(content: bytearray) -> None:
        at = draw.choice([place for place, byte in enumerate(content) if chr(byte) in digits])
        content[at : at + 1] = draw.choice([digit for digit in digits if ord(digit) != content[at]] + ["10"]).encode()

    edit(folder / "index.json", change)


def cut(names: str, folder: Path, sound: Sound, draw: random.Random) -> None:
    path = folder / (some_shard(sound, draw) if names == "shard" else names)
    os.truncate(path, draw.choice([0, 1, draw.randrange(path.stat().st_size), path.stat().st_size - 1]))


def append(folder: Path, sound: Sound, draw: random.Random) -> None:
    more = draw.choice([bytes(1), bytes(draw.randrange(1, 4 * BLOCK)), draw.randbytes(700), hostile_member(draw)])
    edit(folder / some_shard(sound, draw), lambda content: content.extend(more))


def swap_members(folder: Path, sound: Sound, draw: random.Random) -> None:
    """Two of equal length, whole: every header stays a sound one."""
    shard, one = some_member(sound, draw)
    others = [member for member in sound.members[shard] if member.length == one.length and member != one]
    swap(folder / shard, one, draw.choice(others or [some_other(sound.members[shard], one, draw)]))


def some_other(members: list[Extent], one: Extent, draw: random.Random) -> Extent:
    other = draw.choice([member for member in members if member != one])
    length = min(one.length, other.length)
    return other._replace(length=length)


def swap(path: Path, one: Extent, other: Extent) -> None:
    length = min(one.length, other.length)
    a, b = slice(one.begin, one.begin + length), slice(other.begin, other.begin + length)

    def change(content: bytearray) -> None:
        content[a], content[b] = content[b], content[a]

    edit(path, change)


def swap_payloads(folder: Path, sound: Sound, draw: random.Random) -> None:
    """The headers stay: a tile would silently show another's pixels."""
    shard, one = some_member(sound, draw)
    other = some_other(sound.members[shard], one, draw)
    length = min(one.length, other.length) - BLOCK
    swap(folder / shard, Extent(one.begin + BLOCK, length, 0), Extent(other.begin + BLOCK, length, 0))


def swap_tiles(folder: Path, sound: Sound, draw: random.Random) -> None:
    """Two tiles of a shard change places, as a packer in another order would have them."""
    index, number = sound.packed, draw.randrange(len(sound.packed.shards))
    one, other = sorted(draw.sample(np.flatnonzero(index.shard == number).tolist(), 2))
    a, b = (slice(int(index.offset[at]), int(index.offset[at]) + index.span_of(at)) for at in (one, other))

    def change(content: bytearray) -> None:
        content[a.start : b.stop] = content[b] + content[a.stop : b.start] + content[a]

    edit(folder / index.shards[number].name, change)


def swap_shards(folder: Path, sound: Sound, draw: random.Random) -> None:
    one, other = draw.sample(sorted(sound.members), 2)
    content = (folder / one).read_bytes()
    (folder / one).write_bytes((folder / other).read_bytes())
    (folder / other).write_bytes(content)


def header_with(header: bytes, draw: random.Random, **changed: Any) -> bytes:
    """A header that says something else, its own checksum right."""
    member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    for name, value in changed.items():
        setattr(member, name, value)
    made = bytearray(member.tobuf(draw.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]))[:BLOCK])
    return bytes(made)


def wrong_size(folder: Path, sound: Sound, draw: random.Random) -> None:
    shard, member = some_member(sound, draw)
    sizes = [0, 1, member.size + 1, member.size - 1, member.size + BLOCK, 1 << 30, 8**11 - 1, draw.randrange(1 << 20)]
    size = draw.choice([size for size in sizes if size != member.size])

    def change(content: bytearray) -> None:
        at = slice(member.begin, member.begin + BLOCK)
        content[at] = header_with(bytes(content[at]), draw, size=size)

    edit(folder / shard, change)


def size_that_is_no_number(folder: Path, sound: Sound, draw: random.Random) -> None:
    """Negative, beyond 64 bits, or no digits: the header's own checksum is right."""
    shard, member = some_member(sound, draw)
    field = draw.choice(
        [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\xff" * 11 + b"\x00", b"99999999999\0", b"-0000001000\0"]
    )

    def change(content: bytearray) -> None:
        header = content[member.begin : member.begin + BLOCK]
        header[124:136] = field
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        content[member.begin : member.begin + BLOCK] = header

    edit(folder / shard, change)


HOSTILE = (
    "../x",
    "/etc/passwd",
    "/tmp/x",
    "a/../../x",
    "..",
    ".",
    "a/b",
    "index.json",
    "x" * 100,
    "\udcff",
    "000000000.json",
)
KINDS = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_SPARSE,
)


def hostile_member(draw: random.Random) -> bytes:
    member = tarfile.TarInfo(draw.choice(HOSTILE))
    member.type = draw.choice(KINDS)
    member.linkname = draw.choice(["", "/etc/passwd", "../x"])
    content = draw.randbytes(draw.choice([0, 10, 600]))
    member.size = len(content)
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % BLOCK)


def rename(folder: Path, sound: Sound, draw: random.Random) -> None:
    shard, member = some_member(sound, draw)
    kind, name = draw.choice(KINDS), draw.choice(HOSTILE)
    if kind == tarfile.REGTYPE and draw.random() < 0.3:
        name = f"{draw.randrange(12):09d}.aster.b2"

    def change(content: bytearray) -> None:
        at = slice(member.begin, member.begin + BLOCK)
        content[at] = header_with(bytes(content[at]), draw, name=name, type=kind, linkname="../x")

    edit(folder / shard, change)


def insert(folder: Path, sound: Sound, draw: random.Random) -> None:
    """A hostile member, or one that is there already, before another: all that follows is moved."""
    shard, member = some_member(sound, draw)
    twin = draw.choice(sound.members[shard])

    def change(content: bytearray) -> None:
        again = bytes(content[twin.begin : twin.begin + twin.length])
        content[member.begin : member.begin] = draw.choice([hostile_member(draw), again])

    edit(folder / shard, change)


def zero(folder: Path, sound: Sound, draw: random.Random) -> None:
    """A part that the disk lost; where it was 0 already, nothing changes."""

    def change(content: bytearray) -> None:
        begin = draw.randrange(len(content))
        length = draw.choice([1, BLOCK, 4096, len(content)])
        content[begin : begin + length] = bytes(len(content[begin : begin + length]))

    edit(folder / some_shard(sound, draw), change)


def scramble(folder: Path, sound: Sound, draw: random.Random) -> None:
    def change(content: bytearray) -> None:
        begin = draw.randrange(len(content))
        length = len(content[begin : begin + draw.choice([2, 64, BLOCK, 4096])])
        content[begin : begin + length] = draw.randbytes(length)

    edit(folder / some_shard(sound, draw), change)


def drop_bytes(folder: Path, sound: Sound, draw: random.Random) -> None:
    def change(content: bytearray) -> None:
        begin = draw.randrange(len(content) // BLOCK) * BLOCK
        del content[begin : begin + draw.choice([1, BLOCK, 2 * BLOCK])]

    edit(folder / some_shard(sound, draw), change)


def lose(folder: Path, sound: Sound, draw: random.Random) -> None:
    path = folder / draw.choice([some_shard(sound, draw), "index.json", "index.npz"])
    path.unlink()
    kind = draw.randrange(4)
    if kind == 0:
        path.mkdir()
    elif kind < 3:
        path.symlink_to(("nowhere", "/dev/null")[kind - 1])


def other_set(folder: Path, sound: Sound, draw: random.Random) -> None:
    """A file of the same name from a set packed with another codec."""
    other = sound.folder.parent / draw.choice([codec for codec in CODECS if codec != sound.folder.name])
    name = draw.choice([some_shard(sound, draw), "index.json", "index.npz"])
    shutil.copyfile(other / name, folder / name)


DAMAGES: dict[str, Damage] = {
    "flip anywhere": flip_anywhere,
    **{f"flip in {part}": partial(flip_in, part) for part in ("header", "payload", "padding")},
    "flip in the tail": flip_tail,
    **{f"flip in {name}": partial(flip_index, name) for name in ("index.json", "index.npz")},
    "another number in index.json": change_index_text,
    **{f"cut {name}": partial(cut, name) for name in ("shard", "index.json", "index.npz")},
    **{
        made.__name__.replace("_", " "): made
        for made in (
            append,
            swap_members,
            swap_payloads,
            swap_tiles,
            swap_shards,
            wrong_size,
            size_that_is_no_number,
            rename,
            insert,
            zero,
            scramble,
            drop_bytes,
            lose,
            other_set,
        )
    },
}
