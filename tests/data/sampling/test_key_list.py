"""Lists of tile ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.data.sampling.key_list import KeyList, read_keys
from mmae.errors import InputError


def keys(folder: Path, content: bytes) -> KeyList:
    path = folder / "keys.txt"
    path.write_bytes(content)
    return read_keys(path)


def test_space_empty_lines_and_repeats_do_not_matter(tmp_path: Path) -> None:
    plain = keys(tmp_path, b"b\na\n")
    assert plain.listed == (b"b", b"a")
    assert plain.sorted.tolist() == [b"a", b"b"]
    assert keys(tmp_path, b"\xef\xbb\xbf\r\n a\r\nb\t\r\n\r\nb").fingerprint == plain.fingerprint
    assert keys(tmp_path, b"ab").fingerprint != plain.fingerprint


def test_the_first_in_the_file_is_found(tmp_path: Path) -> None:
    some = keys(tmp_path, "z\ncé\nb\na".encode())
    assert some.first_of(some.sorted[:2]) == "b"
    assert some.first_of(some.sorted[2:]) == "z"


@pytest.mark.parametrize(("content", "says"), [(b"", "names no tile"), (b" \n\n", "names no tile"), (b"\xff", "UTF-8")])
def test_files_that_are_not_lists_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(InputError, match=rf"keys\.txt: .*{says}"):
        keys(tmp_path, content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: cannot be read \(No such file"):
        read_keys(tmp_path / "nowhere")
