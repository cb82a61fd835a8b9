"""One shard against the index, by other means than the reader: tarfile finds members, names say what they are.

Checksums alone are looked up by offset.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from data_tools.pack import constant_entry, is_constant
from data_tools.shards import file_hash
from data_tools.verify import Difference
from mmae.data.codec import CodecError, decode
from mmae.data.layout import BLOCK, extents, info_name, member_bytes, member_checksum, member_name
from mmae.modalities import S2_LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tqdm import tqdm

    from data_tools.verify_source import Reference
    from mmae.data.index import Index

Members = dict[str, tarfile.TarInfo]

INFO: Final = "json"
"""What the `.json` member is called where a dataset would be named."""


def check_shard(index: Index, number: int, reference: Reference | None, bar: tqdm[Any]) -> tuple[int, list[Difference]]:
    """Tiles looked at, and everything that is wrong with a shard."""
    info = index.shards[number]
    path = index.folder / info.name
    positions = np.flatnonzero(index.shard == number).tolist()
    found: list[Difference] = []
    if not path.is_file():
        return 0, [Difference(info.name, None, None, "is missing")]
    if path.stat().st_size != info.bytes:
        found.append(Difference(info.name, None, None, f"{path.stat().st_size} bytes, {info.bytes} were packed"))
    elif file_hash(path) != info.hash:
        found.append(Difference(info.name, None, None, "the file's hash differs"))
    try:
        # Apart from tarfile, which does not go on after a damaged header.
        with path.open("rb") as file:
            found += _wrong_checksums(index, positions, file)
        with tarfile.open(path, "r:") as tar:
            members, hostile = _members(tar, info.name)
            found += hostile
            for position in positions:
                found += _Tile(index, position, tar, members).differences(reference)
                bar.update()
    except (tarfile.TarError, OSError) as error:
        return 0, [*found, Difference(info.name, None, None, f"not a readable tar ({error})")]
    found += [Difference(info.name, None, None, f"member {name!r} is not in the index") for name in members]
    return len(positions), found


def _wrong_checksums(index: Index, positions: list[int], file: IO[bytes]) -> Iterator[Difference]:
    """Members whose extent is not the one that was packed. Those wholly behind a cut are left to the other checks."""
    names = (*index.datasets, INFO)
    for position in positions:
        begin = index.offset.item(position)
        file.seek(begin)
        tile = memoryview(file.read(index.span.item(position)))
        shard, row = index.shards[index.shard.item(position)].name, index.row.item(position)
        for column, start, length in extents(index.size[position].tolist(), index.info_size.item(position)):
            extent = tile[start : start + length]
            if len(extent) and member_checksum(extent) != index.checksum.item(position, column):
                what = f"the checksum of its {length} bytes from {begin + start} on differs"
                yield Difference(shard, row, names[column], what)


def _members(tar: tarfile.TarFile, shard: str) -> tuple[Members, list[Difference]]:
    members: Members = {}
    found = []
    try:
        for member in tar:
            if wrong := _hostile(member, members):
                found.append(Difference(shard, None, None, f"member {member.name!r} {wrong}"))
            else:
                members[member.name] = member
    except tarfile.TarError as error:
        found.append(Difference(shard, None, None, f"not a whole tar ({error})"))
    return members, found


def _hostile(member: tarfile.TarInfo, members: Members) -> str | None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or len(name.parts) != 1 or ".." in name.parts:
        return "would leave its folder"
    if not member.isreg():
        return "is a link or no plain file"
    return "is there twice" if member.name in members else None


class _Tile:
    """One tile of the index; its members are taken out of `members` as they are looked at."""

    def __init__(self, index: Index, position: int, tar: tarfile.TarFile, members: Members) -> None:
        self._index = index
        self._position = position
        self._tar = tar
        self._members = members
        self._row = int(index.row[position])
        self._shard = index.shards[int(index.shard[position])]

    def differences(self, reference: Reference | None) -> list[Difference]:
        return list(self._check(reference))

    def _difference(self, dataset: str, what: str) -> Difference:
        return Difference(self._shard.name, self._row, dataset, what)

    def _check(self, reference: Reference | None) -> Iterator[Difference]:
        index, position = self._index, self._position
        offset = int(index.offset[position])
        for column, dataset in enumerate(index.datasets):
            size = int(index.size[position, column])
            array: NDArray[Any] | None = self._constant(dataset)
            if size:
                content, wrong = self._member(member_name(self._row, dataset), offset, size)
                offset += member_bytes(size)
                array, undecoded = self._decoded(dataset, content)
                yield from (self._difference(dataset, what) for what in wrong + undecoded)
            if array is not None and reference is not None:
                yield from (self._difference(dataset, what) for what in reference.compare(position, dataset, array))
        content, wrong = self._member(info_name(self._row), offset, int(index.info_size[position]))
        yield from (self._difference(INFO, what) for what in wrong)
        if content is not None:
            yield from (self._difference(INFO, what) for what in self._info(content, reference))

    def _constant(self, dataset: str) -> NDArray[Any]:
        info = self._index.datasets[dataset]
        return np.full(info.shape, self._index.constants[dataset][self._position], info.dtype)

    def _member(self, name: str, offset: int, size: int) -> tuple[bytes | None, list[str]]:
        member = self._members.pop(name, None)
        if member is None:
            return None, [f"member {name!r} is missing"]
        wrong = []
        if (member.offset, member.offset_data, member.size) != (offset, offset + BLOCK, size):
            wrong.append(f"{member.size} bytes at {member.offset}, the index says {size} at {offset}")
        stream = self._tar.extractfile(member)
        assert stream is not None
        try:
            return stream.read(), wrong
        except tarfile.ReadError:
            return None, [*wrong, "the shard ends within it"]

    def _decoded(self, dataset: str, content: bytes | None) -> tuple[NDArray[Any] | None, list[str]]:
        if content is None:
            return None, []
        info = self._index.datasets[dataset]
        try:
            array = decode(content)
        except CodecError as error:
            return None, [str(error)]
        if array.dtype != info.dtype or array.shape != info.shape:
            return None, [f"{array.dtype} {array.shape}, the index says {info.dtype} {info.shape}"]
        return array, ["constant, yet stored as a member"] if is_constant(array) else []

    def _info(self, content: bytes, reference: Reference | None) -> list[str]:
        index, position = self._index, self._position
        try:
            info = json.loads(content)
        except ValueError as error:
            return [f"not JSON ({error})"]
        if not isinstance(info, dict):
            return ["not a JSON object"]
        constants = {
            name: constant_entry(index.datasets[name].shape, index.constants[name][position : position + 1])
            for column, name in enumerate(index.datasets)
            if index.size[position, column] == 0
        }
        expected = {
            "row": self._row,
            "tile_id": index.tile_id[position].decode(),
            "split": index.splits[index.split[position]],
            "s2_level": S2_LEVELS[index.level[position]],
            "constants": constants,
        }
        wrong = [
            f"{key} is {info.get(key)!r}, not {value!r}" for key, value in expected.items() if info.get(key) != value
        ]
        if expected["split"] != self._shard.split:
            wrong.append(f"split {expected['split']!r} in a shard of {self._shard.split!r}")
        return wrong + (reference.compare_info(position, info.get("tile_info")) if reference is not None else [])
