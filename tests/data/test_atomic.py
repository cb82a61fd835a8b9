from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mmae.data.atomic import atomic_file


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_file(path) as file:
        file.write(b"abc")
        file.flush()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".a.bin.")
        assert temporary.name.endswith(".tmp")
        file.seek(0)
        assert file.read() == b"abc"
    assert [found.name for found in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"abc"


def break_off(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["a.bin", ".hidden"])
def test_an_error_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for before in (None, b"old"):
        if before is not None:
            path.write_bytes(before)
        with pytest.raises(KeyboardInterrupt):
            break_off(path)
        assert [found.read_bytes() for found in tmp_path.iterdir()] == ([] if before is None else [before])


def test_writers_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    together = threading.Barrier(4)

    def write(letter: bytes) -> None:
        together.wait()
        for _ in range(20):
            with atomic_file(path) as file:
                file.write(letter * 1000)
                file.flush()
                file.write(letter * 1000)
            assert len(set(path.read_bytes())) == 1

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(path.read_bytes()) == 2000
    assert [found.name for found in tmp_path.iterdir()] == ["a.bin"]
