from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_tools.repack.command import repack
from data_tools.repack.missing_stats import entries_to_compute
from data_tools.source.dataset import open_source
from mmae.errors import InputError

Make = Callable[..., Any]
WHOLE = {"mean": [1.0, 2.0], "std": [1.0, 0.0]}


def entries(path: Path, mode: str, datasets: list[str] | None = None) -> dict[str, tuple[str, ...]]:
    with open_source(path, datasets) as source:
        return entries_to_compute(source, mode)


def test_what_has_to_be_computed(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    path = data.write(tmp_path)
    assert entries(path, "auto") == {"aster": ("aster",), "sentinel1": ("sentinel1",)}
    assert entries(path, "auto", ["sentinel2", "esa_worldcover"]) == {}
    assert entries(path, "source") == {}
    whole = {"sentinel2": ("sentinel2_l1c", "sentinel2_l2a"), "aster": ("aster",), "sentinel1": ("sentinel1",)}
    assert entries(path, "compute") == whole
    del data.band_stats["sentinel2_l2a"]
    data.band_stats["aster"] = WHOLE
    path = data.write(tmp_path)
    assert entries(path, "auto") == {"sentinel2": ("sentinel2_l2a",), "sentinel1": ("sentinel1",)}
    with pytest.raises(InputError, match="lacks sentinel2_l2a"):
        entries(path, "source")
    assert entries(path, "source", ["aster"]) == {}
    with pytest.raises(InputError, match="did you mean 'compute'"):
        entries(path, "computed")


@pytest.mark.parametrize(
    "entry",
    [
        None,
        3,
        {},
        {"mean": [1.0, 2.0]},
        {**WHOLE, "std": [1.0]},
        {**WHOLE, "std": "ab"},
        {**WHOLE, "mean": [None, 1.0]},
        {**WHOLE, "mean": [float("nan"), 1.0]},
        {**WHOLE, "mean": [True, 1.0]},
    ],
)
def test_entries_without_numbers(mmearth: Make, tmp_path: Path, entry: Any) -> None:
    data = mmearth()
    data.band_stats["aster"] = entry
    assert "aster" in entries(data.write(tmp_path), "auto")


def numpy_stats(arrays: Any, rows: list[int]) -> Any:
    pixels = np.moveaxis(arrays[rows].astype(np.float64), 1, 0).reshape(arrays.shape[1], -1)
    return [band[np.isfinite(band)] for band in pixels]


def test_they_are_those_of_train(mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = mmearth()
    data.arrays["sentinel2"][data.arrays["sentinel2"] == 0] = 1
    del data.band_stats["sentinel2_l1c"]
    given = dict(data.band_stats)
    source = data.write(tmp_path / "source")
    index = repack(source, tmp_path / "out", tiles_per_shard=2)
    assert "computed over 6 tiles of train: sentinel2_l1c, aster, sentinel1" in capsys.readouterr().out
    assert index.options["computed_stats"] == ["sentinel2_l1c", "aster", "sentinel1"]
    stats = json.loads(json.dumps(dict(index.band_stats), allow_nan=False))
    assert stats["sentinel2_l2a"] == given["sentinel2_l2a"]
    for entry, rows in (("sentinel2_l1c", [0, 2, 4]), ("aster", list(range(6))), ("sentinel1", list(range(6)))):
        bands = numpy_stats(data.arrays[entry.removesuffix("_l1c")], rows)
        for kind, of in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
            expected = [float(of(band)) if len(band) else np.nan for band in bands]
            found = np.array(stats[entry][kind], np.float64)
            assert np.allclose(found, expected, rtol=1e-6, equal_nan=True), "null for a band that was never seen"
    again = repack(source, tmp_path / "compute", tiles_per_shard=3, stats="compute")
    assert again.band_stats["sentinel2_l2a"]["mean"] != given["sentinel2_l2a"]["mean"]
    assert again.band_stats["sentinel2_l1c"] == stats["sentinel2_l1c"]
    as_it_was = repack(source, tmp_path / "given", datasets=["esa_worldcover"], stats="source")
    assert dict(as_it_was.band_stats) == given


def test_bands_that_the_source_has_numbers_of_keep_them(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    nan = float("nan")
    data.band_stats["aster"] = {"mean": [7.0, nan], "std": [2.0, nan]}
    data.band_stats["sentinel1"] = {"mean": [nan] * 8, "std": [nan] * 8}
    source = data.write(tmp_path / "source")
    stats = repack(source, tmp_path / "out").band_stats
    slope = data.arrays["aster"][:6, 1].astype(np.float64)
    assert stats["aster"] == {"mean": [7.0, slope.mean()], "std": [2.0, pytest.approx(slope.std())]}
    assert np.isfinite(np.array(stats["sentinel1"]["mean"][:4], np.float64)).all()
    assert stats["sentinel1"]["mean"][4:] == [None] * 4, "of bands without data nothing is known"
    whole = repack(source, tmp_path / "whole", stats="compute").band_stats
    assert whole["aster"]["mean"][0] == pytest.approx(data.arrays["aster"][:6, 0].mean())


@pytest.mark.parametrize("stats", ["auto", "compute"])
def test_a_level_without_tiles_has_no_entry(
    mmearth: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], stats: str
) -> None:
    data = mmearth()
    data.metadata["S2_type"] = "l1c"
    data.band_stats = {}
    found = repack(data.write(tmp_path / "source"), tmp_path / "out", stats=stats).band_stats
    assert set(found) == {"sentinel2_l1c", "aster", "sentinel1"}
    said = capsys.readouterr().out
    assert "computed over 6 tiles of train: sentinel2_l1c, aster, sentinel1\n" in said
    assert "no tile of train has data of sentinel2_l2a: there are no statistics of them" in said


def test_b10_of_l2a_needs_no_numbers(mmearth: Make, tmp_path: Path) -> None:
    data = mmearth()
    nan = float("nan")
    data.band_stats["sentinel2_l2a"] = {"mean": [5.0] * 10 + [nan, 5.0, 5.0], "std": [1.0] * 10 + [nan, 1.0, 1.0]}
    assert "sentinel2" not in entries(data.write(tmp_path), "auto")
    data.band_stats["sentinel2_l1c"] = data.band_stats["sentinel2_l2a"]
    assert entries(data.write(tmp_path), "auto")["sentinel2"] == ("sentinel2_l1c",)
