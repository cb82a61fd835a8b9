"""Tar headers that are, and are not, those of the plain files that an index names."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from data_tools.verify.header import Headers, strays


def header(name: str = "a", size: int = 5, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.USTAR_FORMAT)


@pytest.fixture
def headers() -> Headers:
    """It has seen a header that is sound."""
    made = Headers()
    assert made.fault(header(), "a", 5) is None
    return made


def test_a_sound_header_has_no_fault_seen_before_or_not(headers: Headers) -> None:
    assert headers.fault(header("b", 77), "b", 77) is None
    other = tarfile.TarInfo("c")
    other.size, other.mode, other.mtime, other.uname = 1, 0o444, 9, "someone"
    assert headers.fault(other.tobuf(tarfile.USTAR_FORMAT), "c", 1) is None


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (header("other"), "its header names 'other'"),
        (header("../a"), "its header names '../a', and would leave its folder"),
        (header("/a"), "its header names '/a', and would leave its folder"),
        (header(size=6), "its header says 6 bytes, the index 5"),
        (header(kind=tarfile.SYMTYPE), "its header is that of a link or no plain file"),
        (header(kind=tarfile.DIRTYPE), "its header is that of a link or no plain file"),
        (bytes(512), "no tar header: end of file header"),
        (b"\xff" * 512, "no tar header: bad checksum"),
    ],
)
def test_a_fault_is_named_also_after_sound_headers(headers: Headers, found: bytes, fault: str) -> None:
    assert headers.fault(found, "a", 5) == fault
    assert Headers().fault(found, "a", 5) == fault


@pytest.mark.parametrize("byte", [0, 99, 110, 124, 135, 140, 148, 150, 156, 257, 300, 511])
def test_no_changed_byte_goes_unseen(headers: Headers, byte: int) -> None:
    changed = bytearray(header())
    changed[byte] ^= 1
    assert headers.fault(bytes(changed), "a", 5) is not None


def walked(path: Path, content: bytes, expected: dict[str, int]) -> list[str]:
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(strays(descriptor, len(content), expected))
    finally:
        os.close(descriptor)


def archive(*members: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"12345"))
    return file.getvalue()


FILE, LINK = tarfile.REGTYPE, tarfile.SYMTYPE


def test_members_where_the_index_says_are_no_strays(tmp_path: Path) -> None:
    assert walked(tmp_path / "s", archive(("a", FILE), ("b", FILE)), {"a": 0, "b": 1024}) == []


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ((("a", FILE), ("a", FILE)), "member 'a' at byte 1024 is there twice"),
        ((("a", FILE), ("b", FILE)), "member 'b' at byte 1024 is not in the index"),
        ((("a", FILE), ("/b", FILE)), "member '/b' at byte 1024 is not in the index, and would leave its folder"),
        ((("a", FILE), ("b", LINK)), "member 'b' at byte 1024 is a link or no plain file"),
    ],
)
def test_a_stray_member_is_named(tmp_path: Path, members: tuple[tuple[str, bytes], ...], problem: str) -> None:
    assert walked(tmp_path / "s", archive(*members), {"a": 0}) == [problem]


def test_a_member_elsewhere(tmp_path: Path) -> None:
    assert walked(tmp_path / "s", archive(("a", FILE)), {"a": 512}) == ["member 'a' is at byte 0, the index says 512"]


def test_a_size_that_leads_out_of_the_shard_ends_the_walk(tmp_path: Path) -> None:
    (problem,) = walked(tmp_path / "s", header("a", 8**10) + bytes(2048), {"a": 0})
    assert "ends beyond the shard" in problem


def test_what_is_no_header_ends_the_walk(tmp_path: Path) -> None:
    (problem,) = walked(tmp_path / "s", b"\xff" * 1024, {})
    assert problem.startswith("no tar header at byte 0, a stock reader ends here")
