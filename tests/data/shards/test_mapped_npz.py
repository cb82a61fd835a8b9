from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.data.shards.mapped_npz import UNREADABLE_NPZ, map_npz, save_npz
from mmae.disk.content_hash import stream_hash

ARRAYS: dict[str, NDArray[Any]] = {
    "none": np.zeros((0, 3), np.float32),
    "one": np.array([7], np.uint8),
    "odd": np.arange(13, dtype=np.int64),
    "wide": np.arange(6, dtype=np.uint32).reshape(2, 3),
    "scalar": np.array(1.5),
    "text": np.array([b"a", b"bcd"]),
    "a name that is longer than the others and has a ü": np.arange(3, dtype=np.float64),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def load(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        return map_npz(file)[0]


def test_saved_arrays_are_mapped_and_aligned(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        save_npz(file, ARRAYS)
    mapped = load(path)
    assert list(mapped) == list(ARRAYS)
    with np.load(path, allow_pickle=False) as stored:
        for name, array in ARRAYS.items():
            for found in (mapped[name], stored[name]):
                np.testing.assert_array_equal(found, array)
                assert found.dtype == array.dtype
            assert mapped[name].__array_interface__["data"][0] % 64 == 0
            assert not mapped[name].flags.writeable


def test_no_arrays(tmp_path: Path) -> None:
    with (tmp_path / "a.npz").open("wb") as file:
        save_npz(file, {})
    assert load(tmp_path / "a.npz") == {}


def test_numpys_own_files_are_mapped(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)  # type: ignore[arg-type]
    mapped = load(tmp_path / "a.npz")
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(mapped[name], array)


def test_bytes_depend_on_the_arrays_only() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    save_npz(first, ARRAYS)
    save_npz(second, dict(ARRAYS))
    assert first.getvalue() == second.getvalue()
    assert stream_hash(first) == stream_hash(second)


def test_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        save_npz(io.BytesIO(), {"a": np.array([object()])})
    np.savez(tmp_path / "a.npz", a=np.array([object()]))
    with pytest.raises(ValueError, match="not a plain array"):
        load(tmp_path / "a.npz")


def test_compressed_arrays_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(100))
    with pytest.raises(ValueError, match="compressed"):
        load(tmp_path / "a.npz")


def test_a_member_that_lies_about_its_size(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(100))
    for content in (buffer.getvalue()[:-1], buffer.getvalue() + b"x", b"", b"no array"):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("a.npy", content)
        with pytest.raises(UNREADABLE_NPZ):
            load(tmp_path / "a.npz")


@pytest.mark.long
def test_any_damage_is_an_error_or_harmless(tmp_path: Path) -> None:
    """Each byte outside the data is changed: mapped arrays stay within the file, whatever its headers say."""
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        save_npz(file, {"a": np.zeros(4), "b": np.zeros((2, 2), np.uint8)})
    content = path.read_bytes()
    for place in range(len(content)):
        for value in (0, 0xFF, content[place] ^ 1):
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            try:
                arrays = load(path)
            except UNREADABLE_NPZ:
                continue
            for array in arrays.values():
                array.tobytes()
