from __future__ import annotations

import io
import json
import mmap
import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from mmae.data.shards.columns import Columns
from mmae.data.shards.index import Index, open_index, write_index
from mmae.data.shards.index_json import DatasetInfo, Loss, ShardInfo, SourceInfo
from mmae.data.shards.tar_layout import spans
from mmae.errors import InputError
from tests.support.tiny_sets import sign

DATASETS = {"aster": DatasetInfo(np.dtype("<i2"), (2, 8, 8)), "era5": DatasetInfo(np.dtype("<f4"), (12,))}


def columns(count: int = 5, **changed: Any) -> Columns:
    size = np.full((count, 2), 700, np.uint32)
    size[:, 1] = 0
    info_size = np.full(count, 90, np.uint32)
    span = spans(size, info_size)
    values: dict[str, Any] = {
        "row": np.arange(count) * 3,
        "split": (np.arange(count) // max(count - 1, 1)).astype(np.uint8),
        "level": np.zeros(count, np.uint8),
        "shard": np.arange(count, dtype=np.int32) // max(count - 1, 1),
        "offset": np.cumsum(span) - span,
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


LOSS = Loss(7, "a_l1c", "aster", "chunk is unreadable")


def write(folder: Path, count: int = 5, options: Mapping[str, Any] | None = None, **changed: Any) -> Index:
    folder.mkdir(exist_ok=True)
    return write_index(
        folder,
        columns=columns(count, **changed),
        constants={"aster": np.zeros(count, "<i2"), "era5": np.full(count, np.nan, "<f4")},
        datasets=DATASETS,
        band_stats={"sentinel2_l1c": {"mean": [1.5]}},
        shards=[
            ShardInfo("train-000000.tar", "train", count - min(count, 1), 1 << 16, "00"),
            ShardInfo("val-000000.tar", "val", min(count, 1), 1 << 16, "00"),
        ],
        splits=["train", "val", "test"],
        options=options or {"codec": "small"},
        source=SourceInfo("data.h5", 1, 99, "ff"),
        losses=[LOSS],
    )


def test_a_written_index_is_read(tmp_path: Path) -> None:
    index = write(tmp_path)
    assert len(index) == 5
    assert index.datasets == DATASETS
    assert list(index.datasets) == ["aster", "era5"]
    assert index.row.tolist() == [0, 3, 6, 9, 12]
    assert index.checksum.dtype == np.uint32
    assert index.checksum[0].tolist() == [(1 << 32) - 1, 0, 5]
    assert index.band_stats == {"sentinel2_l1c": {"mean": [1.5]}}
    assert index.splits == ("train", "val", "test")
    assert index.losses == (LOSS,)
    assert np.isnan(index.constants["era5"]).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.json", "index.npz"]


def test_counts_of_each_split_are_there_for_other_programs(tmp_path: Path) -> None:
    write(tmp_path)
    assert json.loads((tmp_path / "index.json").read_text())["tiles"] == {"train": 4, "val": 1, "test": 0}


def test_a_tiles_span_follows_from_its_sizes(tmp_path: Path) -> None:
    index = write(tmp_path)
    assert [index.span_of(position) for position in range(5)] == spans(index.size, index.info_size).tolist()


def test_arrays_are_mapped_and_readable_by_numpy(tmp_path: Path) -> None:
    index = write(tmp_path)
    with np.load(tmp_path / "index.npz", allow_pickle=False) as stored:
        for name, array in stored.items():
            dataset = name.removeprefix("constant.")
            mine = index.constants[dataset] if dataset != name else getattr(index, name)
            np.testing.assert_array_equal(mine, array)
            assert isinstance(mine.base, mmap.mmap)
            assert mine.flags.aligned
            assert not mine.flags.writeable


def resident(path: Path) -> int:
    """Bytes of a mapped file that this process has in its tables."""
    entries = Path("/proc/self/smaps").read_text().split("VmFlags")
    return sum(int(entry.split("Rss:")[1].split()[0]) << 10 for entry in entries if f"{path}\n" in entry)


def test_bytes_a_tile_stay_bounded(tmp_path: Path) -> None:
    """MMEarth's 15 datasets and 1.2 million tiles have to fit into 300 MB; opening makes little of them resident."""
    count, names = 8000, [f"dataset{number}" for number in range(15)]
    size = np.full((count, len(names)), 700, np.uint32)
    info_size = np.full(count, 400, np.uint32)
    span = spans(size, info_size)
    index = write_index(
        tmp_path,
        columns=columns(
            count,
            size=size,
            info_size=info_size,
            checksum=np.ones((count, len(names) + 1), np.uint32),
            offset=np.cumsum(span) - span,
            split=np.zeros(count, np.uint8),
            level=np.zeros(count, np.uint8),
            shard=np.zeros(count, np.int32),
            tile_id=np.array([b"282D_485L_3_3_l1c_000_000"] * count),
        ),
        constants={name: np.zeros(count, np.uint16) for name in names},
        datasets={name: DatasetInfo(np.dtype("<u2"), (1, 64, 64)) for name in names},
        band_stats={},
        shards=[ShardInfo("train-000000.tar", "train", count, int(span.sum()), "00")],
        splits=["train"],
        options={},
        source=SourceInfo("data.h5", 1, count, "ff"),
    )
    size_bytes = (tmp_path / "index.npz").stat().st_size
    assert size_bytes / count < 300e6 / 1.2e6
    assert resident(tmp_path / "index.npz") < size_bytes / 5
    index.checksum.sum()
    index.size.sum()
    assert resident(tmp_path / "index.npz") > size_bytes / 2


def test_positions(tmp_path: Path) -> None:
    index = write(tmp_path)
    assert index.positions("train").tolist() == [0, 1, 2, 3]
    assert index.positions("val").tolist() == [4]
    assert index.positions("val").dtype == np.int64
    assert index.of_split("val").tolist() == [4]
    for nothing in (index.of_split("test"), index.of_split("trian")):
        assert nothing.tolist() == []
        assert nothing.dtype == np.int64
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


def test_a_replaced_set_does_not_travel(tmp_path: Path) -> None:
    pickled = pickle.dumps(write(tmp_path))
    write(tmp_path, options={"codec": "fast"})
    with pytest.raises(InputError, match="replaced while in use"):
        pickle.loads(pickled)  # noqa: S301


@pytest.mark.parametrize("left", [0, 1, 1000, -1])
def test_cut_arrays_are_refused_before_they_are_mapped(tmp_path: Path, left: int) -> None:
    write(tmp_path)
    path = tmp_path / "index.npz"
    os.truncate(path, left % path.stat().st_size)
    with pytest.raises(InputError, match="does not belong"):
        open_index(tmp_path)


def forge(folder: Path, content: bytes) -> None:
    """Replace the arrays, and make the head vouch for them."""
    (folder / "index.npz").write_bytes(content)
    head = json.loads((folder / "index.json").read_text())
    head["arrays"] = {"bytes": len(content), "hash": xxhash.xxh3_128_hexdigest(content)}
    sign(folder / "index.json", head)


def test_arrays_that_the_head_vouches_for_are_still_checked(tmp_path: Path) -> None:
    write(tmp_path)
    content = (tmp_path / "index.npz").read_bytes()
    for damaged in (b"", b"PK", content[:-1], content[: len(content) // 2], content[100:], b"x" + content[1:]):
        forge(tmp_path, damaged)
        with pytest.raises(InputError, match="damaged"):
            open_index(tmp_path)
    with np.load(io.BytesIO(content)) as stored:
        arrays = dict(stored)
    for changed in ({"row": np.array([object()] * 5)}, {"row": np.zeros(6, np.int64)}, {"level": np.zeros((5, 1))}):
        buffer = io.BytesIO()
        np.savez(buffer, **(arrays | changed))
        forge(tmp_path, buffer.getvalue())
        with pytest.raises(InputError, match="damaged"):
            open_index(tmp_path)
    np.savez(tmp_path / "index.npz", **arrays)
    forge(tmp_path, (tmp_path / "index.npz").read_bytes())
    assert open_index(tmp_path).row.tolist() == [0, 3, 6, 9, 12]


def test_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_index(tmp_path / "nowhere")
    with pytest.raises(InputError, match="run mmae repack"):
        open_index(tmp_path)
    write(tmp_path)
    (tmp_path / "index.npz").unlink()
    with pytest.raises(InputError, match=r"index\.npz is missing"):
        open_index(tmp_path)


@pytest.mark.parametrize("name", ["index.json", "index.npz"])
def test_a_fifo_for_a_file_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(it is a FIFO, not a file\)"):
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
        ({"version": 3}, r"written by a newer mmae \(format 3, this one reads 2\): upgrade mmae, or repack"),
        ({"version": 1}, r"written by an older mmae \(format 1, this one reads 2\): repack into a new folder"),
        ({"version": "1"}, "unsupported index format '1'"),
        ({"splits": ["train"]}, "belongs to an unknown split"),
        ({"splits": ["val", "train", "test"]}, "in a shard of another split"),
        ({"shards": []}, "do not agree with its shards"),
        ({"shards": [], "tiles": {"train": 0, "val": 0, "test": 0}}, "shard is out of range"),
        ({"arrays": {"bytes": -1, "hash": ""}}, "not a number of bytes"),
        ({"losses": [{"row": 1}]}, "damaged"),
        ({"datasets": [["aster", "|O", [1]]]}, "does not hold numbers"),
        ({"datasets": [["aster", "<f4", [2, 10**9, 10**9]]]}, "a tile of aster cannot be as large as 2x1000000000x"),
        ({"datasets": [["aster", "<f4", [1] * 99]]}, "a tile of aster cannot be as large"),
        ({"datasets": [["aster", "nonsense", [1]]]}, "damaged"),
        ({"datasets": []}, "column checksum"),
        ({"shards": [{"name": "x.tar"}]}, "damaged"),
    ],
)
def test_damaged_json_is_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    write(tmp_path)
    path = tmp_path / "index.json"
    sign(path, {**json.loads(path.read_text()), **changed})
    with pytest.raises(InputError, match=message) as caught:
        open_index(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [600, 200_000])
def test_json_that_is_nested_deeply_is_one_line(tmp_path: Path, depth: int) -> None:
    write(tmp_path)
    path = tmp_path / "index.json"
    whole = path.read_text()
    path.write_text(whole.replace('"band_stats": {', '"band_stats": {"deep": ' + "[" * depth + "]" * depth + ",", 1))
    with pytest.raises(InputError, match=r"damaged|not JSON") as caught:
        open_index(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\xff"])
def test_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    write(tmp_path)
    (tmp_path / "index.json").write_text(text, "latin-1")
    with pytest.raises(InputError):
        open_index(tmp_path)


def test_any_other_byte_of_the_json_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "index.json"
    whole = path.read_bytes()
    for changed in (
        whole[:-1],
        whole + b"\n",
        whole.replace(b"train-000", b"train-001", 1),
        whole.replace(b" ", b"  ", 1),
    ):
        assert changed != whole
        path.write_bytes(changed)
        with pytest.raises(InputError, match="damaged"):
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
