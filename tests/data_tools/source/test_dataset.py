from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.source.dataset import open_source
from data_tools.verify.check_set import verify
from mmae.errors import InputError

Make = Callable[..., Any]


def refused(src: Path, message: str, datasets: list[str] | None = None) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_source(src, datasets)
    assert "\n" not in str(caught.value)


def test_opens_file_or_folder(source: Path) -> None:
    for src in (source, source.parent):
        with open_source(src) as opened:
            assert list(opened.datasets) == ["sentinel2", "aster", "esa_worldcover", "sentinel1", "era5", "month"]
            assert opened.info.rows == 12
            assert opened.level.tolist() == [0, 1] * 6
            assert opened.tile_ids[1] == "tile_0_l2a"
            assert opened.splits["train"].tolist() == [0, 1, 2, 3, 4, 5]
            assert opened.read("month", 3).dtype == np.dtype("<i4")


def test_layouts_of_other_writers(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth(chunked=False)
    data.arrays["sentinel2_scl"] = np.zeros((12, 1, 8, 8), np.uint16)
    data.arrays["lat"] = np.zeros((12, 2), ">f4")
    data.metadata = data.metadata.astype([("id", "S40"), ("product", "S8")])
    with open_source(data.write(tmp_path)) as opened:
        assert opened.level.tolist() == [0, 1] * 6
        assert opened.read("lat", 0).dtype == np.dtype("<f4")
        assert opened.datasets["lat"].dtype == np.dtype("<f4")


def test_metadata_of_variable_length_strings(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    text = h5py.string_dtype()
    data.metadata = np.array(
        [(name.decode(), level.decode().upper()) for name, level in data.metadata.tolist()],
        np.dtype([("id", text), ("type", text)]),
    )
    with open_source(data.write(tmp_path)) as opened:
        assert opened.tile_ids[0] == "tile_0_l1c"
        assert opened.level.tolist() == [0, 1] * 6


def test_the_fingerprint_knows_content_not_place(mmearth: Make, tmp_path: Path) -> None:
    def fingerprint(folder: str, data: Any) -> str:
        with open_source(data.write(tmp_path / folder)) as opened:
            return str(opened.info.fingerprint)

    data = mmearth()
    first = fingerprint("a", data)
    assert fingerprint("b", data) == first
    data.splits["train"].pop()
    assert fingerprint("c", data) != first


def test_paths(tmp_path: Path, source: Path) -> None:
    refused(tmp_path / "nowhere", "no such file or folder")
    refused(tmp_path, r"0 \.h5 files")
    (source.parent / "other.h5").write_bytes(b"")
    refused(source.parent, r"2 \.h5 files")


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_cut_file(source: Path, kept: float) -> None:
    size = source.stat().st_size
    os.truncate(source, int(kept if kept > 1 else kept * size))
    refused(source, "not a whole HDF5 file")


@pytest.mark.parametrize("kind", ["band_stats", "splits", "tile_info"])
def test_json_files(source: Path, kind: str) -> None:
    path = source.with_name(f"data_{kind}.json")
    path.write_text("{")
    refused(source, f"data_{kind}.json: not JSON")
    path.write_text("[]")
    refused(source, "not a JSON object")
    path.unlink()
    refused(source, "no such file")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": [0, 12]}, "names row 12, the .h5 file has 12 rows"),
        ({"train": [0, -1]}, "names row -1"),
        ({"train": [0, 1], "val": [1]}, "row 1 is in split 'train' and in 'val'"),
        ({"train": [0, 0]}, "names a row twice"),
        ({"train": []}, "missing or empty"),
        ({"val": [1]}, "missing or empty"),
        ({"train": [0.5]}, "not a list of row numbers"),
        ({"train": [True]}, "not a list of row numbers"),
        ({"train": 3}, "not a list of row numbers"),
        ({"train": [0], "../x": [1]}, "cannot be the name of a split"),
    ],
)
def test_splits(mmearth: Make, tmp_path: Path, splits: dict[str, Any], message: str) -> None:
    data = mmearth()
    data.splits = splits
    refused(data.write(tmp_path), message)


@pytest.mark.parametrize(
    "entry", [None, {}, {"mean": [1.0] * 13}, {"mean": [1.0] * 12, "std": [1.0] * 13}, {"mean": 1, "std": 2}]
)
def test_band_stats(mmearth: Make, tmp_path: Path, entry: Any) -> None:
    data = mmearth()
    data.band_stats["sentinel2_l2a"] = entry
    refused(data.write(tmp_path), r"sentinel2_l2a\.(mean|std) must be 13 numbers")


def test_a_level_without_numbers_has_no_entry(mmearth: Make, tmp_path: Path) -> None:
    """MMEarth's own tools write NaN for what they never saw."""
    data = mmearth()
    nan = float("nan")
    data.band_stats["sentinel2_l1c"] = {"mean": [nan] * 13, "std": [nan] * 13}
    data.band_stats["sentinel2_l2a"] = {"mean": [5.0] * 10 + [nan, 5.0, 5.0], "std": [1.0] * 10 + [nan, 1.0, 1.0]}
    with open_source(data.write(tmp_path)) as opened:
        assert "sentinel2_l1c" not in opened.band_stats
        assert opened.band_stats["sentinel2_l2a"]["mean"] == [5.0] * 10 + [None, 5.0, 5.0]


def test_statistics_of_others_may_be_nan(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.band_stats["era5"] = {"mean": [float("nan")]}
    with open_source(data.write(tmp_path)) as opened:
        assert opened.band_stats["era5"] == {"mean": [None]}


def test_rows_disagree(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.arrays["aster"] = data.arrays["aster"][:-1]
    refused(data.write(tmp_path), "'aster' is .* but 'metadata' has 12 rows")


def test_metadata(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.metadata["S2_type"][3] = b"l3"
    refused(data.write(tmp_path / "a"), r"row 3 \(tile tile_1_l2a\): S2 type 'l3' is neither l1c nor l2a")
    data.metadata = np.zeros(12, np.int32)
    refused(data.write(tmp_path / "b"), "not a table")


def test_tile_info_lacks_a_tile(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    del data.tile_info["tile_1_l2a"]
    refused(data.write(tmp_path), "no entry for tile 'tile_1_l2a'")


def test_rows_that_nobody_filled(mmearth: Make, tmp_path: Path) -> None:
    """MMEarth's merging tool makes room for more tiles than there are; all of it stays 0."""
    data = mmearth()
    for name, values in data.arrays.items():
        data.arrays[name] = np.concatenate([values, np.zeros_like(values[:2])])
    data.metadata = np.concatenate([data.metadata, np.zeros(2, data.metadata.dtype)])
    path = data.write(tmp_path / "a")
    with open_source(path) as opened:
        assert opened.info.rows == 14
        assert opened.tile_ids[12:] == ["", ""]
    assert repack(path, tmp_path / "out").row.max() == 11
    assert verify(tmp_path / "out", path, shown=False).count == 0
    data.splits["val"].append(12)
    refused(data.write(tmp_path / "b"), "no entry for tile ''")


@pytest.mark.parametrize("kind", ["record", "bytes", "text"])
def test_metadata_of_ids_alone(mmearth: Make, tmp_path: Path, kind: str) -> None:
    data = mmearth()
    ids = data.metadata["tile_id"]
    data.metadata = {
        "record": ids.astype([("tile_id", "S100")]),
        "bytes": ids,
        "text": np.array([each.decode() for each in ids], h5py.string_dtype()),
    }[kind]
    with open_source(data.write(tmp_path / "a")) as opened:
        assert opened.tile_ids[1] == "tile_0_l2a"
        assert opened.level.tolist() == [0, 1] * 6
    del data.tile_info["tile_2_l1c"]["S2_type"]
    refused(
        data.write(tmp_path / "b"), r"row 4 \(tile tile_2_l1c\): S2 type '' is neither .*tile_info has no level either"
    )


def test_a_level_that_one_row_leaves_open(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    data.metadata["S2_type"][3] = b""
    with open_source(data.write(tmp_path)) as opened:
        assert opened.level.tolist() == [0, 1] * 6


def test_splits_in_a_file_of_their_own(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text('{"train": [0, 1, 2], "held_out": [9]}')
    source.with_name("data_splits.json").unlink()
    refused(source, "data_splits.json: no such file: .*or name another with --splits FILE")
    with open_source(source, splits=mine) as opened:
        assert {name: rows.tolist() for name, rows in opened.splits.items()} == {"train": [0, 1, 2], "held_out": [9]}
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        open_source(source, splits=tmp_path / "nowhere.json")
