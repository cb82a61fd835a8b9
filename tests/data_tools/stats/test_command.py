from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.source.json_files import read_band_stats
from data_tools.stats.command import add_arguments, measure, run
from mmae.data.shards.index import open_index
from mmae.errors import InputError
from mmae.terminal.table import WIDTH

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def sound_shards(sound_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "out"
    repack(sound_source, folder, tiles_per_shard=2)
    return folder


@pytest.fixture
def packed(sound_shards: Path, tmp_path: Path) -> Path:
    """Twelve tiles in six shards, of a test's own."""
    return Path(shutil.copytree(sound_shards, tmp_path / "out"))


def command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(["--workers", "1", *map(str, words)]))


def by_numpy(source: Path, split: str) -> dict[str, Any]:
    """Two passes in float64 over what the HDF5 file holds."""
    rows = json.loads(source.with_name("data_splits.json").read_text())[split]
    tables = {}
    with h5py.File(source) as file:
        level = np.array([kind.decode() for kind in file["metadata"]["S2_type"]])[rows]
        for name, entry, chosen in (
            ("sentinel2", "sentinel2_l1c", level == "l1c"),
            ("sentinel2", "sentinel2_l2a", level == "l2a"),
            ("sentinel1", "sentinel1", level != ""),
            ("aster", "aster", level != ""),
        ):
            stored = file[name][:][rows][chosen].astype(np.float64)
            bands = [stored[:, band][np.isfinite(stored[:, band])] for band in range(stored.shape[1])]
            bands = [values[values != 0] if name == "sentinel2" else values for values in bands]
            kinds: dict[str, Any] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
            tables[entry] = {key: [float(of(v)) if v.size else np.nan for v in bands] for key, of in kinds.items()}
    return tables


def same(found: list[float | None], expected: Any, tolerance: float) -> None:
    """Null stands where there is no number."""
    np.testing.assert_allclose(np.array(found, np.float64), np.array(expected, np.float64), rtol=tolerance)


@pytest.mark.parametrize("split", ["train", "val"])
def test_as_numpy_has_it(packed: Path, source: Path, split: str) -> None:
    found = measure(packed, split, workers=1).band_stats()
    expected = by_numpy(source, split)
    assert found.keys() == expected.keys()
    for entry, table in expected.items():
        for key, values in table.items():
            same(found[entry][key], values, 1e-6)


@pytest.mark.process
def test_neither_processes_nor_shards_change_it(packed: Path, source: Path, tmp_path: Path) -> None:
    alone = measure(packed, workers=1)
    for name, gathered in measure(packed, workers=2).arrays().items():
        assert gathered.tobytes() == alone.arrays()[name].tobytes(), name
    repack(source, tmp_path / "one")
    whole = measure(tmp_path / "one", workers=1).band_stats()
    for entry, table in alone.band_stats().items():
        for key, values in table.items():
            same(whole[entry][key], values, 1e-12 if entry == "sentinel1" else 0)


def test_as_repack_computes_them(source: Path, tmp_path: Path) -> None:
    index = repack(source, tmp_path / "out", tiles_per_shard=2, stats="compute")
    assert measure(tmp_path / "out", workers=1).band_stats() == index.band_stats


def test_the_table_and_the_file(packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "stats.json"
    capsys.readouterr()
    assert command(packed, "--out", out) == 0
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in printed.splitlines() if "|" in line]
    assert rows[0] == ["dataset", "band", "valid pixels", "mean", "std", "min", "max"]
    assert ["sentinel2_l2a", "B8A"] in [row[:2] for row in rows]
    assert ["sentinel1", "desc VV", "0", "-", "-", "-", "-"] in rows
    assert max(map(len, printed.splitlines()[:-1])) <= WIDTH
    assert read_band_stats(out) == measure(packed, workers=1).band_stats()
    assert list(tmp_path.glob("*.json")) == [out]


@pytest.mark.parametrize("kind", ["file", "link", "no folder"])
def test_what_is_there_is_not_overwritten(packed: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / ("nowhere/stats.json" if kind == "no folder" else "stats.json")
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        out.symlink_to("elsewhere")
    what = "there is no folder" if kind == "no folder" else "exists already"
    with pytest.raises(InputError, match=f"--out {out}: {what}"):
        command(packed, "--out", out)
    assert kind != "file" or out.read_text() == "mine"
    assert kind != "link" or not out.exists()


def test_a_damaged_tile_is_not_measured(packed: Path, tmp_path: Path) -> None:
    shard = packed / "train-000001.tar"
    content = bytearray(shard.read_bytes())
    content[int(open_index(packed).offset[2]) + 700] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"train-000001\.tar.* is damaged"):
        command(packed, "--out", tmp_path / "stats.json")
    assert not (tmp_path / "stats.json").exists()


def test_unusable_input(packed: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no split 'trian'"):
        command(packed, "--split", "trian")
    with pytest.raises(InputError, match="split 'test' has no tile"):
        command(packed, "--split", "test")
    with pytest.raises(InputError, match="no such folder"):
        command(tmp_path / "nowhere")
    with pytest.raises(InputError, match="--workers 0"):
        command(packed, "--workers", "0")
    repack(source, tmp_path / "labels", datasets=["esa_worldcover", "month"])
    with pytest.raises(InputError, match="none of sentinel2"):
        command(tmp_path / "labels")


def test_other_dtypes(mmearth: Make, tmp_path: Path) -> None:
    """Other writers of the layout."""
    data = mmearth()
    data.arrays["aster"] = data.arrays["aster"].astype(np.float64)
    data.arrays["sentinel2"] = data.arrays["sentinel2"].astype(np.int32)
    source = data.write(tmp_path / "source")
    repack(source, tmp_path / "out")
    found = measure(tmp_path / "out", workers=1).band_stats()
    for entry, table in by_numpy(source, "train").items():
        same(found[entry]["std"], table["std"], 1e-6)


def test_several_sets_are_measured_as_one(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    repack(data.write(tmp_path / "both"), tmp_path / "out")
    for number in (0, 1):
        data.splits = {"train": [row for row in range(6) if row % 2 == number], "val": []}
        repack(data.write(tmp_path / f"source{number}"), tmp_path / f"part{number}")
    command(tmp_path / "part0", tmp_path / "part1", "--out", tmp_path / "parts.json")
    command(tmp_path / "out", "--out", tmp_path / "whole.json")
    parts, whole = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("parts", "whole"))
    assert parts.keys() == whole.keys()
    assert parts["sentinel2_l2a"] == whole["sentinel2_l2a"]
    same(parts["sentinel1"]["mean"], whole["sentinel1"]["mean"], 1e-9)
    data.arrays["aster"] = data.arrays["aster"].astype(np.float64)
    repack(data.write(tmp_path / "floats"), tmp_path / "other")
    with pytest.raises(InputError, match="other: does not fit"):
        command(tmp_path / "part0", tmp_path / "other")


def test_several_splits_are_measured_as_one(packed: Path, tmp_path: Path) -> None:
    for split in ("train", "train,val", "train, train"):
        command(packed, "--split", split, "--out", tmp_path / f"{split}.json")
    one, both, twice = ((tmp_path / f"{split}.json").read_text() for split in ("train", "train,val", "train, train"))
    assert one == twice
    assert one != both
