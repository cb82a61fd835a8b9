from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.repack.tar_header import end, header, padding

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._-"), min_size=1, max_size=100)


def archive(members: Mapping[str, bytes]) -> bytes:
    whole = b"".join(header(name, len(data)) + data + padding(len(data)) for name, data in members.items())
    return whole + end(len(whole))


def by_tarfile(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o444
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.long
@given(st.dictionaries(NAMES, st.binary(max_size=1100), max_size=25))
def test_python_writes_the_same_archive(members: dict[str, bytes]) -> None:
    assert archive(members) == by_tarfile(members)


@given(NAMES, st.integers(0, 8**11 - 1))
def test_python_reads_the_header(name: str, size: int) -> None:
    info = tarfile.TarInfo.frombuf(header(name, size), "ascii", "strict")
    assert (info.name, info.size, info.mode, info.mtime, info.type) == (name, size, 0o444, 0, tarfile.REGTYPE)
    assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")


@pytest.mark.parametrize("sizes", [[], [0], [1], [511, 512, 513], [8192], [9216], [9217], [40000]])
def test_webdataset_writes_the_same_archive(sizes: list[int]) -> None:
    from webdataset import TarWriter

    members = {f"{number:09d}.json": b"x" * size for number, size in enumerate(sizes)}
    file = io.BytesIO()
    with TarWriter(file, user="", group="", mode=0o444, mtime=0, encoder=False, compress=False) as writer:
        for name, data in members.items():
            key, _, extension = name.partition(".")
            writer.write({"__key__": key, extension: data})
    assert archive(members) == file.getvalue()


@pytest.mark.parametrize(("name", "size"), [("", 1), ("x" * 101, 1), ("x", -1), ("x", 8**11), ("ä", 1)])
def test_what_does_not_fit(name: str, size: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (a UnicodeEncodeError is one)
        header(name, size)
