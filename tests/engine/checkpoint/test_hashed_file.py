"""A hashed file knows the hash of its content, and a failed write raises when it is closed."""

from __future__ import annotations

from pathlib import Path

import pytest
import xxhash

from mmae.engine.checkpoint.hashed_file import Entry, HashedFile, hash_file, write_hashed
from tests.support.full_disk import REASON, files_up_to


@pytest.mark.parametrize("pieces", [[], [b""], [b"abc"], [b"abc", bytearray(b"de"), memoryview(b"f")]])
def test_it_is_hashed_as_its_bytes_are(tmp_path: Path, pieces: list[bytes]) -> None:
    file = HashedFile(tmp_path / "a")
    assert [file.write(piece) for piece in pieces] == list(map(len, pieces))
    whole = b"".join(pieces)
    assert file.close() == Entry(len(whole), xxhash.xxh3_128_hexdigest(whole)) == hash_file(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == whole


def test_a_full_disk_raises_at_the_close(tmp_path: Path) -> None:
    with files_up_to(10):
        file = HashedFile(tmp_path / "a")
        for _ in range(3):
            assert file.write(b"x" * 100_000) == 100_000
        with pytest.raises(OSError, match=REASON):
            file.close()


def test_a_file_is_written_at_once(tmp_path: Path) -> None:
    assert write_hashed(tmp_path / "a", b"abc") == hash_file(tmp_path / "a")


def test_a_missing_file_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "none")
