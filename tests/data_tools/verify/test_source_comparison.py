"""Shards compared with a source: the one that was packed, a changed one, another one, one that cannot be read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.source import chunks, raw_read
from data_tools.verify.check_set import verify
from data_tools.verify.command import add_arguments, run
from mmae.data.shards.index import open_index
from mmae.errors import InputError
from tests.support.shard_differences import damage_source, flip, found

Make = Callable[..., Any]


def test_other_values_in_the_source(mmearth: Make, packed: Path, tmp_path: Path) -> None:
    data = mmearth()
    data.arrays["sentinel2"][4, 0, 0, 0] ^= 1
    data.arrays["era5"][3] = 1.0
    data.arrays["esa_worldcover"][5, 0, 0, 1] = 20
    data.tile_info["tile_1_l1c"]["lat"] = 40.0
    data.metadata["S2_type"][1] = b"l1c"
    data.splits["train"].pop()
    data.band_stats["sentinel2_l1c"] = {"mean": [1.0] * 13, "std": [1.0] * 13}
    lines = "\n".join(found(packed, data.write(tmp_path / "other")))
    assert "row 4, sentinel2: 1 of 832 values differ from the source" in lines
    assert "row 3, era5: 12 of 12 values differ" in lines
    assert "row 5, esa_worldcover: 1 of 64 values differ" in lines
    assert "row 2: lat is 1.0, the source has 40.0" in lines
    assert "row 2, json: tile_info differs" in lines
    assert "row 1: level is 1, the source has 0" in lines
    assert "split 'train': 6 tiles, not the source's 5" in lines
    assert "index: band_stats of sentinel2_l1c differ from the source's" in lines
    assert len(lines.splitlines()) == 8


def test_a_source_with_fewer_rows(mmearth: Make, packed: Path, tmp_path: Path) -> None:
    lines = "\n".join(found(packed, mmearth(rows=4).write(tmp_path / "other")))
    assert "rows beyond the source's 4" in lines


def test_what_packed_the_shards_does_not_check_them(
    packed: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the repacker's own way of reading must not hide itself."""

    def never(*_: object) -> None:
        raise AssertionError("read as the repacker does")

    for owner, name in (
        (raw_read.RawTiles, "array"),
        (raw_read.PlainTiles, "array"),
        (raw_read, "inflate"),
        (chunks, "find_tiles"),
    ):
        monkeypatch.setattr(owner, name, never)
    assert verify(packed, source).differences == []


def test_a_source_that_cannot_be_read(packed: Path, source: Path) -> None:
    damage_source(source, 4, "sentinel2")
    report = verify(packed, source)
    assert [(found.row, found.dataset) for found in report.differences] == [(4, "sentinel2")]
    assert "the source cannot be read there" in str(report.differences[0])
    assert report.damaged == [], "the shards are as they were packed"


def another(data: Any, kind: str) -> Any:
    """A data set that cannot be the one that was packed."""
    if kind == "ids":
        data.metadata["tile_id"] = [f"other_{row}" for row in range(12)]
        data.tile_info = {f"other_{row}": each for row, each in enumerate(data.tile_info.values())}
    elif kind == "dataset":
        del data.arrays["month"]
    else:
        data.arrays["aster"] = data.arrays["aster"][..., :4]
    return data


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("ids", "0 of 12 tile ids are the same"),
        ("dataset", "it has no dataset 'month' of numbers"),
        ("shape", r"its aster is int16 \(2, 8, 4\) a tile, the shards hold int16 \(2, 8, 8\)"),
    ],
)
def test_another_data_set_is_refused_as_such(mmearth: Make, packed: Path, tmp_path: Path, kind: str, why: str) -> None:
    other = another(mmearth(), kind).write(tmp_path / "other")
    flip(packed, open_index(packed), 0, 600)
    message = rf"is another data set than .*out was packed from \({why}\): give --against the data\.h5 that was packed"
    with pytest.raises(InputError, match=message):
        verify(packed, other)


def test_a_changed_source_is_told_and_no_repair_from_it_advised(
    mmearth: Make, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = mmearth()
    data.arrays["month"][0] += 1
    other = data.write(tmp_path / "other")
    flip(packed, open_index(packed), 0, 600)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args([str(packed), "--against", str(other), "--workers", "1"])) == 1
    *_, note, _, advice = capsys.readouterr().out.splitlines()
    assert note == (
        f"{other} is not the data.h5 that was packed, or its JSON files have changed (another fingerprint): "
        "differences may be those between the two"
    )
    assert advice == "1 shard is not as it was packed: --against data.h5 --repair writes it anew"
