"""Which tiles become train and val: drawn by place, taken from a file, and what both show of the same ground."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.repack.command import add_arguments, repack, run
from data_tools.verify.check_set import tell, verify
from mmae.data.shards.index import open_index
from mmae.errors import InputError

Make = Callable[..., Any]


def no_val(make: Make, rows: int = 60) -> Any:
    data = make(rows=rows, size=1)
    data.splits = {"train": list(range(rows)), "val": [], "test": []}
    return data


def test_val_by_place(mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = no_val(mmearth).write(tmp_path / "source")
    index = repack(source, tmp_path / "out", val_fraction=0.2, seed=3)
    val = index.row[index.positions("val")]
    assert len(val) == 12
    assert index.options["val_fraction"] == 0.2
    train = index.row[index.positions("train")]
    assert not set(val // 2) & set(train // 2), "both levels of a place fall together"
    assert sorted([*val, *train]) == list(range(60))
    assert set(repack(source, tmp_path / "same", val_fraction=0.2, seed=3).row[index.split == 1]) == set(val)
    other = repack(source, tmp_path / "other", val_fraction=0.2, seed=4)
    assert set(other.row[other.positions("val")]) != set(val)
    assert "hint" not in capsys.readouterr().out


def test_places_from_the_datasets_where_tile_info_is_silent(mmearth: Make, tmp_path: Path) -> None:
    data = no_val(mmearth)
    places = np.radians([row // 2 for row in range(60)])
    data.arrays["lat"] = np.stack([np.sin(places), np.cos(places)], 1).astype(np.float32)
    data.arrays["lon"] = data.arrays["lat"]
    for entry in data.tile_info.values():
        del entry["lat"], entry["lon"]
    index = repack(data.write(tmp_path / "source"), tmp_path / "out", val_fraction=0.2)
    assert np.allclose(index.lat, index.row // 2, atol=1e-4)
    assert len(index.positions("val")) == 12


def test_unknown_places_stay_in_train(mmearth: Make, tmp_path: Path) -> None:
    data = no_val(mmearth)
    for row in range(30):
        entry = data.tile_info[f"tile_{row // 2}_{('l1c', 'l2a')[row % 2]}"]
        entry["lat"] = None if row % 3 else float("nan")
    index = repack(data.write(tmp_path / "source"), tmp_path / "out", val_fraction=0.2)
    assert np.isnan(index.lat[index.row < 30]).all()
    assert index.row[index.positions("val")].min() >= 30


def test_val_fraction_refused(mmearth: Make, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="has 6 tiles in val already"):
        repack(source, out, val_fraction=0.1)
    data = no_val(mmearth)
    for entry in data.tile_info.values():
        entry["lat"] = 1.0
    with pytest.raises(InputError, match="in one place"):
        repack(data.write(tmp_path / "one"), out, val_fraction=0.1)
    for entry in data.tile_info.values():
        del entry["lat"]
    with pytest.raises(InputError, match="no tile of train has lat and lon"):
        repack(data.write(tmp_path / "none"), out, val_fraction=0.1)
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="--val-fraction"):
            repack(source, out, val_fraction=fraction)
    assert not out.exists()


def test_an_empty_val_is_hinted_at(mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = repack(no_val(mmearth).write(tmp_path / "source"), tmp_path / "out")
    assert "hint: val is empty" in capsys.readouterr().out
    with pytest.raises(InputError, match="--val-fraction"):
        index.positions("val")


# --- the folder ---


def test_a_tile_in_two_splits_is_told_of_before_anything_is_packed(
    mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = mmearth()
    for values in (*data.arrays.values(), data.metadata):
        values[6] = values[0]
    path = data.write(tmp_path / "source")
    repack(path, tmp_path / "out")
    first, *_ = capsys.readouterr().out.splitlines()
    # Row 1 is the other level of the same place, in train as row 0 is.
    assert first.startswith(
        "WARNING: 1 of 6 tiles of val show ground that train shows too "
        "(1 with the same tile id; the first: 'tile_0_l1c')"
    )
    report = verify(tmp_path / "out", path)
    assert [(each.split, each.same_id) for each in report.leaks] == [("val", 1)]
    assert report.count == 0
    tell(report, path)
    *_, told, last = capsys.readouterr().out.splitlines()
    assert told == first
    assert last.endswith(": 0 differences, 1 tile on ground of another split")


def test_both_levels_of_a_place_in_two_splits(
    mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = mmearth()
    data.splits = {"train": [0, 2, 3], "val": [1], "test": [4]}
    # The tiles of 8 pixels overlap by half.
    data.tile_info["tile_2_l1c"]["lat"] = 40 / 111_195
    repack(data.write(tmp_path / "source"), tmp_path / "out")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING")]
    assert "1 of 1 tile of val show ground that train shows too (1 with the same place;" in lines[0]
    assert "1 of 1 tile of test show ground that train shows too (1 with an overlapping footprint;" in lines[1]
    assert "1 of 1 tile of test show ground that val shows too (1 with an overlapping" in lines[2]


def test_a_val_drawn_by_place_shares_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": list(range(12))}))
    repack(source, tmp_path / "out", splits=splits, val_fraction=0.2)
    assert "WARNING" not in capsys.readouterr().out


def test_splits_of_another_file(source: Path, tmp_path: Path) -> None:
    splits = tmp_path / "mine.json"
    splits.write_text(json.dumps({"train": [0, 1], "val": [4], "test": []}))
    command = argparse.ArgumentParser()
    add_arguments(command)
    words = [str(source), str(tmp_path / "out"), "--workers", "1"]
    assert run(command.parse_args([*words, "--splits", str(splits)])) == 0
    index = open_index(tmp_path / "out")
    assert sorted(index.row.tolist()) == [0, 1, 4]
    assert verify(tmp_path / "out", source, splits=splits).count == 0
    with pytest.raises(InputError, match="holds shards of another data set"):
        run(command.parse_args(words))
    # The same splits in the usual place are the same source.
    splits.replace(source.with_name("data_splits.json"))
    assert run(command.parse_args(words)) == 0
