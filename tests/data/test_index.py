from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmae.data.index import Columns, DatasetInfo, Index, ShardInfo, SourceInfo, open_index, write_index
from mmae.data.layout import spans
from mmae.errors import InputError

DATASETS = {"aster": DatasetInfo(np.dtype("<i2"), (2, 8, 8)), "era5": DatasetInfo(np.dtype("<f4"), (12,))}


def columns(count: int = 5, **changed: Any) -> Columns:
    size = np.full((count, 2), 700, np.uint32)
    size[:, 1] = 0
    info_size = np.full(count, 90, np.uint32)
    span = spans(size, info_size)
    values: dict[str, Any] = {
        "row": np.arange(count) * 3,
        "split": np.array([0] * (count - 1) + [1] * min(count, 1), np.uint8)[:count],
        "level": np.zeros(count, np.uint8),
        "shard": np.zeros(count, np.int32),
        "offset": np.cumsum(span) - span,
        "span": span,
        "checksum": np.tile(np.array([(1 << 32) - 1, 0, 5], np.uint32), (count, 1)),
        "size": size,
        "info_size": info_size,
        "lat": np.full(count, np.nan),
        "lon": np.zeros(count),
        "date": np.zeros(count, np.int32),
        "biome": np.full(count, 255, np.uint8),
        "tile_id": np.array([b"a"] * count, "S3"),
    }
    return Columns(**{**values, **changed})


def write(folder: Path, count: int = 5, options: Mapping[str, Any] | None = None, **changed: Any) -> Index:
    folder.mkdir(exist_ok=True)
    return write_index(
        folder,
        columns=columns(count, **changed),
        constants={"aster": np.zeros(count, "<i2"), "era5": np.full(count, np.nan, "<f4")},
        datasets=DATASETS,
        band_stats={"sentinel2_l1c": {"mean": [1.5]}},
        shards=[ShardInfo("train-000000.tar", "train", count, 1 << 16, "00")],
        splits=["train", "val", "test"],
        options=options or {"codec": "small"},
        source=SourceInfo("data.h5", 1, 99, "ff"),
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    index = write(tmp_path)
    assert len(index) == 5
    assert index.datasets == DATASETS
    assert list(index.datasets) == ["aster", "era5"]
    assert index.row.tolist() == [0, 3, 6, 9, 12]
    assert index.checksum.dtype == np.uint32
    assert index.checksum[0].tolist() == [(1 << 32) - 1, 0, 5]
    assert index.band_stats == {"sentinel2_l1c": {"mean": [1.5]}}
    assert index.splits == ("train", "val", "test")
    assert np.isnan(index.constants["era5"]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "index.npz"]


def test_positions(tmp_path: Path) -> None:
    index = write(tmp_path)
    assert index.positions("train").tolist() == [0, 1, 2, 3]
    assert index.positions("val").tolist() == [4]
    assert index.positions("val").dtype == np.int64
    with pytest.raises(InputError, match="no split 'trian' \\(splits: train, val, test\\)"):
        index.positions("trian")
    with pytest.raises(InputError, match="'test' has no tile"):
        index.positions("test")


def test_an_empty_split_names_its_remedy(tmp_path: Path) -> None:
    index = write(tmp_path, 0)
    with pytest.raises(InputError, match="splits file puts tiles into train"):
        index.positions("train")
    with pytest.raises(InputError, match="--val-fraction"):
        index.positions("val")


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "a").fingerprint
    assert write(tmp_path / "b").fingerprint == first
    shutil.move(tmp_path / "a", tmp_path / "c")
    assert open_index(str(tmp_path / "c")).fingerprint == first
    assert write(tmp_path / "d", options={"codec": "fast"}).fingerprint != first
    assert write(tmp_path / "e", row=np.arange(5)).fingerprint != first


def test_travels_to_worker_processes(tmp_path: Path) -> None:
    index = pickle.loads(pickle.dumps(write(tmp_path)))  # noqa: S301
    assert index.positions("train").tolist() == [0, 1, 2, 3]


def test_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_index(tmp_path / "nowhere")
    with pytest.raises(InputError, match="run mmae repack"):
        open_index(tmp_path)
    write(tmp_path)
    (tmp_path / "index.npz").unlink()
    with pytest.raises(InputError, match=r"index\.npz is missing"):
        open_index(tmp_path)


def test_arrays_of_another_set_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", row=np.arange(5))
    shutil.copy(tmp_path / "b" / "index.npz", tmp_path / "a" / "index.npz")
    with pytest.raises(InputError, match="does not belong"):
        open_index(tmp_path / "a")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "other"}, "not an index of mmae shards"),
        ({"version": 2}, r"written by a newer mmae \(format 2, this one reads 1\): upgrade mmae, or repack"),
        ({"version": "1"}, "format '1' is none"),
        ({"splits": ["train"]}, "split is out of range"),
        ({"shards": []}, "shard is out of range"),
        ({"datasets": [["aster", "nonsense", [1]]]}, "damaged"),
        ({"datasets": []}, "column checksum"),
        ({"shards": [{"name": "x.tar"}]}, "damaged"),
    ],
)
def test_damaged_json_is_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path)
    path = tmp_path / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(InputError, match=message) as caught:
        open_index(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\xff"])
def test_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    write(tmp_path)
    (tmp_path / "index.json").write_text(text, "latin-1")
    with pytest.raises(InputError):
        open_index(tmp_path)


@pytest.mark.parametrize("name", ["../train-000000.tar", "/etc/passwd", "train-0.tar", ""])
def test_shard_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace("train-000000.tar", name))
    with pytest.raises(InputError, match="shard's name"):
        open_index(tmp_path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("offset", np.full(5, -1)),
        ("offset", np.full(5, 1 << 40)),
        ("span", np.full(5, 512)),
        ("level", np.full(5, 2, np.uint8)),
        ("row", np.zeros(4, np.int64)),
        ("row", np.zeros(5, np.int32)),
        ("checksum", np.zeros(5, np.uint64)),
        ("checksum", np.zeros((5, 2), np.uint32)),
        ("checksum", np.ones((5, 3), np.uint32)),
    ],
)
def test_contradicting_columns_are_refused(tmp_path: Path, name: str, values: Any) -> None:
    with pytest.raises(InputError, match="the index is damaged"):
        write(tmp_path, **{name: values})


def test_a_failed_write_leaves_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def fail(src: Path, dst: Path) -> None:
        if Path(dst).name == "index.json":
            raise OSError("disk full")
        replace(src, dst)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["index.npz"]
