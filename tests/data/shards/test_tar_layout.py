"""Offsets that follow from sizes are those at which the standard library writes."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
import xxhash

from mmae.data.shards.tar_layout import (
    BLOCK,
    extents,
    info_name,
    member_bytes,
    member_checksum,
    member_name,
    members_bytes,
    shard_name,
    spans,
)

TILES = [([700, 0, 512], 40), ([0, 0, 0], 2), ([1, 513, 100_000], 512)]
"""Payload bytes of the members of each tile, and of its .json."""


@pytest.fixture
def shard() -> tuple[bytes, list[tarfile.TarInfo]]:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row, (sizes, info_size) in enumerate(TILES):
            members = [(member_name(row, str(column)), size) for column, size in enumerate(sizes) if size]
            for name, size in [*members, (info_name(row), info_size)]:
                member = tarfile.TarInfo(name)
                member.size = size
                tar.addfile(member, io.BytesIO(b"x" * size))
    file.seek(0)
    with tarfile.open(fileobj=file) as tar:
        return file.getvalue(), tar.getmembers()


def test_extents_are_where_the_members_lie(shard: tuple[bytes, list[tarfile.TarInfo]]) -> None:
    _, members = shard
    seen, begin = [], 0
    for row, (sizes, info_size) in enumerate(TILES):
        names = [*(member_name(row, str(column)) for column in range(len(sizes))), info_name(row)]
        tile = list(extents(sizes, info_size))
        seen += [(names[column], begin + start) for column, start, _ in tile]
        begin += sum(length for _, _, length in tile)
    assert seen == [(member.name, member.offset) for member in members]


def test_a_tile_begins_where_the_one_before_it_ends(shard: tuple[bytes, list[tarfile.TarInfo]]) -> None:
    _, members = shard
    size, info_size = np.array([each for each, _ in TILES], np.uint32), np.array([each for _, each in TILES], np.uint32)
    span = spans(size, info_size)
    assert span.dtype == np.int64
    firsts = [next(member.offset for member in members if member.name.startswith(f"{row:09d}")) for row in range(3)]
    assert (np.cumsum(span) - span).tolist() == firsts
    assert (span - members_bytes(size)).tolist() == [member_bytes(each) for _, each in TILES]


def test_sizes_near_four_gigabytes_do_not_overflow() -> None:
    size = np.array([[2**32 - 1, 2**32 - 1]], np.uint32)
    assert members_bytes(size).tolist() == [2 * (BLOCK + 2**32)]


def test_the_checksum_is_that_of_the_header_and_the_payload(shard: tuple[bytes, list[tarfile.TarInfo]]) -> None:
    content, members = shard
    first = content[members[0].offset : members[1].offset]
    assert member_checksum(first) == member_checksum(memoryview(first)) == xxhash.xxh3_64_intdigest(first) % 2**32
    renamed = b"1" + first[1:]
    assert member_checksum(renamed) != member_checksum(first)


def test_names_sort_as_their_numbers_do() -> None:
    assert shard_name("val", 12) == "val-000012.tar"
    assert info_name(7) < member_name(8, "aster") < info_name(123_456_789)
