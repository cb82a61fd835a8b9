from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_tools.synth.command import synthesise
from mmae.bench.repeated_source import prepare
from mmae.bench.scratch import need_disk_space, scratch_folder
from mmae.errors import InputError

ROWS = 24


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "small"
    synthesise(folder, ROWS, 8)
    return folder


@pytest.mark.parametrize("tiles", [1, ROWS - 1, ROWS, 2 * ROWS + 5])
def test_repeats_every_array_and_filter(original: Path, tmp_path: Path, tiles: int) -> None:
    made = prepare(original, tmp_path, tiles)
    assert made.tiles == tiles
    rows = np.arange(tiles) % ROWS
    with h5py.File(original / "small.h5") as old, h5py.File(made.file) as new:
        assert set(new) == set(old)
        for name in set(old) - {"metadata"}:
            before, after = old[name], new[name]
            assert (after.dtype, after.chunks, after.compression) == (before.dtype, before.chunks, before.compression)
            assert after[:].tobytes() == before[:][rows].tobytes()
        (first, second), ids = new["metadata"].dtype.names, new["metadata"][:]
        assert len(set(ids[first].tolist())) == tiles
        old_table = old["metadata"][:]
        assert [value.decode() for value in ids[second]] == [
            value.decode() for value in old_table[old_table.dtype.names[1]][rows]
        ]
    old_info = json.loads((original / "small_tile_info.json").read_text())
    info = json.loads(made.file.with_name("data_tile_info.json").read_text())
    names = [value.decode() for value in ids[first].tolist()]
    assert [info[name] for name in names] == [old_info[names[row].partition("#")[0]] for row in rows]
    assert json.loads(made.file.with_name("data_splits.json").read_text())["train"] == list(range(tiles))


def test_arrays_whose_tiles_are_not_single_chunks_are_copied_too(original: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in original.glob("*.json"):
        (other / path.name).write_bytes(path.read_bytes())
    with h5py.File(original / "small.h5") as old, h5py.File(other / "small.h5", "w") as new:
        for name in old:
            chunks = {"sentinel2": None, "aster": (5, 2, 3, 8)}.get(name, True)
            new.create_dataset(name, data=old[name][:], chunks=chunks if name != "metadata" else None)
        del new["era5"]
        # Never written: all of it is the fill value.
        new.create_dataset("era5", (ROWS, 12), "f4", chunks=(1, 12), compression="gzip", fillvalue=3.5)
    made = prepare(other, tmp_path, ROWS + 3)
    with h5py.File(other / "small.h5") as old, h5py.File(made.file) as new:
        for name in ("sentinel2", "aster", "era5", "sentinel1"):
            assert np.array_equal(new[name][:], old[name][:][np.arange(ROWS + 3) % ROWS], equal_nan=True)


def test_an_existing_source_is_used_again(original: Path, tmp_path: Path) -> None:
    made = prepare(original, tmp_path, 5)
    before = made.file.stat().st_mtime_ns
    assert prepare(original, tmp_path, 5) == made
    assert made.file.stat().st_mtime_ns == before
    assert prepare(original, tmp_path, 6).file != made.file


def test_bad_input(original: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        prepare(tmp_path / "absent", tmp_path, 5)
    with pytest.raises(InputError, match="GB are free and"):
        prepare(original, tmp_path, 10**12)
    assert list(tmp_path.iterdir()) == [], "nothing is left of what failed"


def test_scratch_is_removed_unless_asked_for(tmp_path: Path) -> None:
    with scratch_folder(None) as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()
    with scratch_folder(tmp_path / "kept" / "here") as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "kept" / "here" / "file").read_text() == "x"
    with pytest.raises(InputError, match="cannot be made"), scratch_folder(tmp_path / "kept" / "here" / "file"):
        pass
    need_disk_space(tmp_path, 0)
