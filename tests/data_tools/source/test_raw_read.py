"""Reading by place against plain h5py, over the layouts that writers of HDF5 choose."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.source.chunks import Chunks, find_tiles
from data_tools.source.raw_read import PlainTiles, RawTiles, UnreadableTileError

ROWS = 7


def values(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    draw = np.random.default_rng(1)
    made = draw.integers(0, 100, (ROWS, *shape)).astype(dtype)
    made[2] = made.reshape(-1)[0]
    if made.dtype.kind == "f":
        made[3].reshape(-1)[:1] = np.nan
        made[4].reshape(-1)[:1] = -np.inf
    return made


def write(path: Path, dtype: str = "<i2", shape: tuple[int, ...] = (2, 5, 5), **how: Any) -> np.ndarray[Any, Any]:
    made = values(dtype, shape)
    userblock = how.pop("userblock_size", 0)
    libver = how.pop("libver", None)
    with h5py.File(path, "w", userblock_size=userblock, libver=libver) as file:
        file.create_dataset("d", data=made, dtype=dtype, **how)
    return made


@contextmanager
def raw_tiles(path: Path) -> Iterator[RawTiles | None]:
    with h5py.File(path) as file:
        found = find_tiles(file, "d")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield RawTiles(descriptor, *found) if found is not None else None
    finally:
        os.close(descriptor)


def little_endian(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(array.dtype.newbyteorder("<"))


def same(path: Path) -> None:
    """Every row by place is what h5py reads."""
    with raw_tiles(path) as tiles, h5py.File(path) as file:
        assert tiles is not None
        plain = PlainTiles(file["d"], np.arange(len(file["d"])))
        for row in range(len(file["d"])):
            array, expected = (little_endian(source.array(row)) for source in (tiles, plain))
            assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
            assert array.tobytes() == expected.tobytes()


@pytest.mark.parametrize("filters", [{}, {"compression": 9}, {"shuffle": True}, {"compression": 1, "shuffle": True}])
@pytest.mark.parametrize("dtype", ["<u1", "<i2", ">u2", ">i4", "<f4", ">f8", "<u8"])
def test_chunks_of_one_tile(tmp_path: Path, filters: dict[str, Any], dtype: str) -> None:
    path = tmp_path / "a.h5"
    for userblock, libver, shape in product((0, 1024), ("earliest", "latest"), ((), (1,), (3,), (2, 5, 5))):
        write(path, dtype, shape, chunks=(1, *shape), userblock_size=userblock, libver=libver, **filters)
        same(path)


@pytest.mark.parametrize("userblock", [0, 512])
@pytest.mark.parametrize("dtype", ["<u2", ">f4"])
@pytest.mark.parametrize("shape", [(), (2, 5, 5)], ids=str)
def test_contiguous(tmp_path: Path, userblock: int, dtype: str, shape: tuple[int, ...]) -> None:
    write(tmp_path / "a.h5", dtype, shape, userblock_size=userblock)
    same(tmp_path / "a.h5")


def test_datasets_that_can_grow(tmp_path: Path) -> None:
    for libver in ("earliest", "latest"):
        path = tmp_path / f"{libver}.h5"
        write(path, chunks=(1, 2, 5, 5), maxshape=(None, 2, 5, 5), compression="gzip", libver=libver)
        with h5py.File(path, "a") as file:
            file["d"].resize(ROWS + 3, 0)
            file["d"][ROWS + 1] = 7
        same(path)


@pytest.mark.parametrize(
    "how",
    [
        {"chunks": (2, 2, 5, 5)},
        {"chunks": (1, 1, 5, 5)},
        {"chunks": (1, 2, 4, 4)},
        {"chunks": (1, 2, 5, 5), "compression": "lzf"},
        {"chunks": (1, 2, 5, 5), "fletcher32": True},
        {"chunks": (1, 2, 5, 5), "compression": "gzip", "fletcher32": True},
        {"chunks": (1, 2, 5, 5), "scaleoffset": 0},
        {"chunks": (1, 2, 5, 5), "compression": "szip"},
    ],
    ids=str,
)
def test_other_layouts_are_left_to_hdf5(tmp_path: Path, how: dict[str, Any]) -> None:
    if how.get("compression") == "szip" and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        pytest.skip("this HDF5 has no szip")
    write(tmp_path / "a.h5", **how)
    with raw_tiles(tmp_path / "a.h5") as tiles:
        assert tiles is None


def test_storage_that_is_not_in_the_file_is_left_to_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("d", (ROWS, 4), "i4", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])[:] = 1
    with raw_tiles(path) as tiles:
        assert tiles is None
    layout = h5py.VirtualLayout((ROWS, 4), "i4")
    layout[:] = h5py.VirtualSource(str(path), "d", (ROWS, 4))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    with raw_tiles(tmp_path / "b.h5") as tiles:
        assert tiles is None


def test_compact_storage_is_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((ROWS, 2))
        h5py.h5d.create(file.id, b"d", h5py.h5t.STD_I32LE, space, plist)
        file["d"][:] = 3
    with raw_tiles(tmp_path / "a.h5") as tiles:
        assert tiles is None


def test_numbers_of_fewer_bits_are_left_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.h5t.STD_U16LE.copy()
        kind.set_precision(12)
        kind.set_offset(4)
        space = h5py.h5s.create_simple((ROWS, 2))
        h5py.h5d.create(file.id, b"d", kind, space)
        file["d"][:] = 3
    with raw_tiles(tmp_path / "a.h5") as tiles:
        assert tiles is None


def test_filters_that_were_skipped(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.h5", values("<i2", (2, 3))
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", plain.shape, "<i2", chunks=(1, 2, 3), compression="gzip", shuffle=True)
        for row, tile in enumerate(plain):
            planes = np.ascontiguousarray(np.frombuffer(tile.tobytes(), np.uint8).reshape(-1, 2).T).tobytes()
            stored = [zlib.compress(planes), zlib.compress(tile.tobytes()), planes, tile.tobytes()][row % 4]
            data.id.write_direct_chunk((row, 0, 0), stored, filter_mask=[0, 1, 2, 3][row % 4])
    same(path)
    with h5py.File(path) as file:
        assert np.array_equal(file["d"][:], plain)


@pytest.mark.parametrize("fill", [None, 0, -7])
def test_tiles_that_were_never_written(tmp_path: Path, fill: int | None) -> None:
    path = tmp_path / "a.h5"
    for dtype in ("<i2", ">i2"):
        with h5py.File(path, "w") as file:
            how = {} if fill is None else {"fillvalue": fill}
            data = file.create_dataset("d", (ROWS, 2, 3), dtype, chunks=(1, 2, 3), compression="gzip", **how)
            data[3] = 5
        same(path)
        with h5py.File(path, "w") as file:
            file.create_dataset("d", (ROWS, 2, 3), dtype, chunks=(1, 2, 3), compression="gzip", **how)
        same(path)


def test_contiguous_and_never_written(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (ROWS, 4), "i4", fillvalue=3)
    with raw_tiles(tmp_path / "a.h5") as tiles:
        assert tiles is None


def test_no_rows(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", (0, 4), "i4", chunks=(1, 4), maxshape=(None, 4))
    with raw_tiles(tmp_path / "a.h5") as tiles:
        assert tiles is None


# --- damage ---


def one_chunk(tmp_path: Path, stored: bytes, name: str = "a.h5") -> Path:
    with h5py.File(tmp_path / name, "w") as file:
        data = file.create_dataset("d", (1, 4), "<i4", chunks=(1, 4), compression="gzip")
        data.id.write_direct_chunk((0, 0), stored)
    return tmp_path / name


@pytest.mark.parametrize(
    "stored",
    [
        b"\0",
        b"not deflate",
        zlib.compress(b"x" * 15),
        zlib.compress(b"x" * 17),
        zlib.compress(b"x" * 16)[:-1],
        zlib.compress(b"x" * 16)[:-4] + b"abcd",
        zlib.compress(bytes(1 << 24)),
    ],
    ids=["zero", "garbage", "short", "long", "cut", "checksum", "bomb"],
)
def test_damaged_chunks(tmp_path: Path, stored: bytes) -> None:
    with raw_tiles(one_chunk(tmp_path, stored)) as tiles:
        assert tiles is not None
        with pytest.raises(UnreadableTileError, match=r"^cannot be read"):
            tiles.array(0)


def test_what_follows_a_stream_does_not_matter(tmp_path: Path) -> None:
    same(one_chunk(tmp_path, zlib.compress(b"x" * 16) + b"more"))


def test_a_cut_file(tmp_path: Path) -> None:
    path = one_chunk(tmp_path, zlib.compress(b"x" * 16))
    with raw_tiles(path) as tiles:
        assert tiles is not None
        beyond = Chunks(tiles.chunks.offset + path.stat().st_size, tiles.chunks.size, tiles.chunks.skipped)
        with pytest.raises(UnreadableTileError, match="the file ends before it"):
            RawTiles(tiles.file, tiles.storage, beyond).array(0)


def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    with raw_tiles(one_chunk(tmp_path, zlib.compress(b"x" * 16))) as tiles:
        assert tiles is not None
        monkeypatch.setattr(os, "pread", fails)
        with pytest.raises(UnreadableTileError, match=r"cannot be read \(Input/output error\)"):
            tiles.array(0)


def test_offsets_are_checked_against_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.h5", chunks=(1, 2, 5, 5), compression="gzip")
    monkeypatch.setattr(os, "pread", lambda *_: b"something else")
    with raw_tiles(tmp_path / "a.h5") as tiles:
        assert tiles is None
