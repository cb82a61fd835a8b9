"""Damaged shard folders: `verify` tells of each, and the reader never hands out a tile that is not what was packed."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.verify.check_set import verify
from mmae.data.shards.index import Index, open_index
from mmae.data.shards.reader import ShardReader
from mmae.data.shards.tar_layout import BLOCK, extents
from mmae.errors import InputError

CODECS = ("none", "fast", "small")
FOLDERS = 900
"""Damaged folders that continuous integration looks at; six times as many in the slow run."""
BATCHES = 6
DECODER_ROUNDS = 20_000


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


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sound]:
    """One folder a codec; tiles with constant, compressible and incompressible arrays."""
    from tests.support.mmearth import MMEarth

    data = MMEarth()
    data.arrays["aster"] = np.broadcast_to(np.arange(8, dtype=np.int16) * 3, data.arrays["aster"].shape).copy()
    folder = tmp_path_factory.mktemp("sound")
    source = data.write(folder / "source")
    return {codec: look(source, folder / codec, codec) for codec in CODECS}


def look(source: Path, folder: Path, codec: str) -> Sound:
    index = repack(source, folder, codec=codec, tiles_per_shard=3)
    members: dict[str, list[Extent]] = {shard.name: [] for shard in index.shards}
    for position in range(len(index)):
        sizes = [*index.size[position].tolist(), int(index.info_size[position])]
        members[index.shards[index.shard[position]].name] += [
            Extent(int(index.offset[position]) + start, length, sizes[column])
            for column, start, length in extents(sizes[:-1], sizes[-1])
        ]
    return Sound(folder, index, members, list(read_all(index)))


def read_all(index: Index) -> Iterator[dict[str, Any]]:
    """What training would be given: every tile; damage raises."""
    reader = ShardReader(index, list(index.datasets))
    try:
        for position in range(len(index)):
            yield seen(reader, position)
    finally:
        reader.close()


def seen(reader: ShardReader, position: int) -> dict[str, Any]:
    tile = reader.read(position)
    content = {name: (array.dtype, array.shape, array.tobytes()) for name, array in tile.arrays.items()}
    return content | {"row": tile.row, "level": tile.level}


# How a folder is damaged: each takes the folder, what it was, and draws; some change nothing now and then.

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


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder; links and folders by what they are."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        plain = stat.S_ISREG(mode)
        found[str(path.relative_to(folder))] = path.read_bytes() if plain else f"{stat.S_IFMT(mode):o}"
    return found


def check_one(seed: int, name: str, sound: Sound, cage: Path) -> bool:
    """Damage a copy, look at it by `verify` and by the reader; whether anything was changed at all."""
    folder = cage / "shards"
    shutil.copytree(sound.folder, folder)
    DAMAGES[name](folder, sound, random.Random(seed))
    changed = contents(folder) != contents(sound.folder)
    before = contents(cage)
    if changed:
        assert is_told_of(folder), f"seed {seed}, {name}: verify found nothing"
        no_tile_differs(folder, sound, seed)
        assert contents(cage) == before, f"seed {seed}, {name}: something was written"
    shutil.rmtree(folder)
    return changed


def is_told_of(folder: Path) -> bool:
    try:
        return verify(folder, shown=False).count > 0
    except InputError as error:
        return is_one_line(error)


def is_one_line(error: InputError) -> bool:
    return "\n" not in str(error)


def no_tile_differs(folder: Path, sound: Sound, seed: int) -> None:
    try:
        index = open_index(folder)
    except InputError:
        return
    assert len(index) == len(sound.packed)
    assert index.band_stats == sound.packed.band_stats
    reader = ShardReader(index, list(index.datasets))
    for position, expected in enumerate(sound.tiles):
        try:
            tile = seen(reader, position)
        except InputError:
            continue
        assert tile == expected, f"seed {seed}: the reader gave a tile that differs"
    reader.close()


def check_many(seeds: range, sound: dict[str, Sound], cage: Path) -> None:
    names = sorted(DAMAGES)
    changed = 0
    for seed in seeds:
        name = names[seed % len(names)]
        codec = CODECS[seed // len(names) % len(CODECS)]
        changed += check_one(seed, name, sound[codec], cage)
    assert changed > 0.9 * len(seeds), "most damages must damage something"


@pytest.mark.long
@pytest.mark.parametrize("batch", range(BATCHES))
def test_damage_is_told_of_and_never_read_as_a_good_tile(batch: int, sound: dict[str, Sound], tmp_path: Path) -> None:
    size = FOLDERS // BATCHES
    check_many(range(batch * size, (batch + 1) * size), sound, tmp_path)


@pytest.mark.slow
def test_much_more_damage(sound: dict[str, Sound], tmp_path: Path) -> None:
    check_many(range(FOLDERS, 6 * FOLDERS), sound, tmp_path)


def test_a_sound_folder_is_read_whole(sound: dict[str, Sound]) -> None:
    """The checks above could not fail if this did not hold."""
    for codec, whole in sound.items():
        assert verify(whole.folder).count == 0, codec
        assert list(read_all(open_index(whole.folder))) == whole.tiles


@pytest.mark.process
@pytest.mark.parametrize("codec", CODECS)
def test_the_decoder_alone_survives_any_bytes(codec: str) -> None:
    """In a process of its own: what it must not do is crash, hang, write elsewhere, or take all memory."""
    script = Path(__file__).with_name("fuzz_decoder.py")
    command = [sys.executable, str(script), codec, str(DECODER_ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    refused, decoded = map(int, done.stdout.split())
    assert refused + decoded == DECODER_ROUNDS
    assert refused > DECODER_ROUNDS / 10
