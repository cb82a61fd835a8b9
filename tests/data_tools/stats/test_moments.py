from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_tools.stats.moments import CONTINUOUS, Moments

ZERO = {"mean": [0.0], "std": [0.0], "min": [0.0], "max": [0.0]}


def numpy_stats(values: Any) -> dict[str, Any]:
    """Two passes in float64; None for no value at all."""
    if values.size == 0:
        return dict.fromkeys(ZERO)
    wide = values.astype(np.float64)
    return {"mean": wide.mean(), "std": wide.std(), "min": wide.min(), "max": wide.max()}


def agrees(found: dict[str, list[float | None]], bands: list[Any], absent: tuple[int, ...] = ()) -> None:
    for band, values in enumerate(bands):
        for name, expected in numpy_stats(values).items():
            wanted = 0.0 if band in absent and not values.size else expected
            if wanted is None:
                assert found[name][band] is None, (name, band)
            else:
                assert found[name][band] == pytest.approx(wanted, rel=1e-6, abs=1e-9), (name, band)


def test_which_datasets_have_statistics() -> None:
    assert CONTINUOUS == ("sentinel2", "aster", "sentinel1", "canopy_height_eth")
    moments = Moments()
    moments.update("esa_worldcover", np.ones((1, 4, 4), np.uint8))
    moments.update("era5", np.ones(12, np.float32))
    assert moments.band_stats() == {}


@settings(deadline=None)
@given(
    arrays(np.float32, (5, 2, 3, 3), elements=st.floats(-60, 30, width=32) | st.sampled_from([np.nan, np.inf, -np.inf]))
)
def test_floats_that_are_not_finite_are_no_data(stored: Any) -> None:
    moments = Moments()
    for tile in stored:
        moments.update("sentinel1", tile)
    bands = [stored[:, band][np.isfinite(stored[:, band])] for band in range(2)]
    if np.isfinite(stored).any():
        agrees(moments.band_stats()["sentinel1"], bands)
    else:
        assert moments.band_stats() == {}
    assert moments.counts()["sentinel1"] == [len(values) for values in bands]


@settings(deadline=None)
@given(arrays(np.uint16, (6, 2, 2, 3), elements=st.sampled_from([0, 1, 2, 9999, 65535])), st.integers(0, 63))
def test_sentinel2_by_level_without_zeros(stored: Any, levels: int) -> None:
    moments = Moments()
    level = [levels >> number & 1 for number in range(6)]
    for tile, of in zip(stored, level, strict=True):
        moments.update("sentinel2", tile, of)
    stats = moments.band_stats()
    for number, entry in enumerate(("sentinel2_l1c", "sentinel2_l2a")):
        chosen = stored[np.array(level) == number]
        assert (entry in stats) == bool(chosen.any()), "what was never seen has no statistics"
        if entry in stats:
            agrees(stats[entry], [chosen[:, band][chosen[:, band] != 0] for band in range(2)])


def test_canopy_height_without_what_the_writer_clamped() -> None:
    moments = Moments()
    moments.update("canopy_height_eth", np.array([[[127, 3], [5, 127]], [[127, 127], [127, 127]]], np.int8))
    assert moments.band_stats()["canopy_height_eth"] == {
        "mean": [4.0, None],
        "std": [1.0, None],
        "min": [3.0, None],
        "max": [5.0, None],
    }


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64])
def test_any_kind_of_numbers(dtype: Any) -> None:
    """Other writers of the layout store other dtypes."""
    stored = np.random.default_rng(0).integers(-400, 9000, (4, 2, 8, 8)).astype(dtype)
    moments = Moments()
    for tile in stored:
        moments.update("aster", tile)
    agrees(moments.band_stats()["aster"], [stored[:, band] for band in range(2)])


def test_a_tile_that_is_not_contiguous() -> None:
    stored = np.arange(2 * 6 * 6, dtype=np.int16).reshape(2, 6, 6)
    moments = Moments()
    moments.update("aster", stored[:, ::2, 1::3])
    agrees(moments.band_stats()["aster"], [stored[band, ::2, 1::3] for band in range(2)])
    assert stored.flags.writeable
    assert stored.ravel().tolist() == list(range(72)), "what is measured is not changed"


def test_what_was_never_seen_has_no_statistics() -> None:
    moments = Moments()
    moments.update("sentinel1", np.full((8, 4, 4), -np.inf, np.float32))
    moments.update("sentinel2", np.zeros((13, 4, 4), np.uint16), 1)
    moments.update("aster", np.zeros((2, 0, 0), np.int16))
    assert moments.band_stats() == {}
    moments.update("aster", np.zeros((2, 4, 4), np.int16))
    seen = np.ones((13, 4, 4), np.uint16)
    seen[5], seen[10] = 0, 0
    moments.update("sentinel2", seen, 1)
    stats = json.loads(json.dumps(moments.band_stats(), allow_nan=False))
    assert sorted(stats) == ["aster", "sentinel2_l2a"], "of L1C there was no tile"
    assert stats["aster"] == {name: [0.0, 0.0] for name in ZERO}, "a flat sea has data"
    assert stats["sentinel2_l2a"]["mean"] == [1, 1, 1, 1, 1, None, 1, 1, 1, 1, 0, 1, 1], "L2A has no B10"
    assert stats["sentinel2_l2a"]["std"] == [0, 0, 0, 0, 0, None, 0, 0, 0, 0, 0, 0, 0]


def test_of_l1c_b10_is_a_band_like_any_other() -> None:
    moments = Moments()
    seen = np.ones((13, 4, 4), np.uint16)
    seen[10] = 0
    moments.update("sentinel2", seen, 0)
    assert moments.band_stats()["sentinel2_l1c"]["std"][10] is None


def test_numbers_beyond_float64_become_null() -> None:
    moments = Moments()
    moments.update("sentinel1", np.array([[-1e308, 1e308]]))
    stats = moments.band_stats()["sentinel1"]
    assert stats["std"] == [None]
    json.dumps(stats, allow_nan=False)


def gathered(seed: int) -> Moments:
    draw = np.random.default_rng(seed)
    moments = Moments()
    for level in (0, 1) if seed % 2 else (1,):
        moments.update("sentinel2", draw.integers(0, 9, (13, 4, 4)).astype(np.uint16), level)
    moments.update("sentinel1", draw.normal(-12, 4, (8, 4, 4)).astype(np.float32))
    return moments


def test_arrays_come_back_through_an_npz() -> None:
    moments = gathered(1)
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **moments.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = Moments.from_arrays(dict(stored))
    assert again.band_stats() == moments.band_stats()
    again.merge(gathered(2))
    moments.merge(gathered(2))
    assert again.band_stats() == moments.band_stats()
    assert Moments.from_arrays({}).band_stats() == {}


@pytest.mark.parametrize("change", [{"aster.count": np.zeros(2)}, {"nonsense": np.zeros(2)}])
def test_arrays_of_something_else(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fields"):
        Moments.from_arrays(gathered(0).arrays() | change)


def test_what_is_merged_is_left_alone() -> None:
    left, right = Moments(), gathered(3)
    before = right.band_stats()
    left.merge(right)
    left.merge(gathered(4))
    assert right.band_stats() == before


@pytest.mark.parametrize("tile", [np.zeros((3, 4), np.uint16), np.zeros((13, 4), np.float32)], ids=["bands", "kind"])
def test_tiles_of_two_kinds(tile: Any) -> None:
    moments = gathered(2)
    with pytest.raises(ValueError, match="sentinel2_l2a"):
        moments.update("sentinel2", tile, 1)
    other = Moments()
    other.update("sentinel2", tile, 1)
    with pytest.raises(ValueError, match="sentinel2_l2a"):
        moments.merge(other)


@pytest.mark.long
def test_real_tiles(shared: Path) -> None:
    folder = shared / "mini_mmearth" / "data_1M_v001_64"
    train = np.array(json.loads((folder / "data_1M_v001_64_splits.json").read_text())["train"])
    stored = {}
    with h5py.File(folder / "data_1M_v001_64.h5") as file:
        level = np.array([0 if kind == b"l1c" else 1 for kind in file["metadata"]["S2_type"]])
        for name in CONTINUOUS:
            stored[name] = file[name][:]
    moments = Moments()
    for row in train:
        for name in CONTINUOUS:
            moments.update(name, stored[name][row], int(level[row]))
    stats = moments.band_stats()
    for number, entry in enumerate(("sentinel2_l1c", "sentinel2_l2a")):
        tiles = stored["sentinel2"][train[level[train] == number]]
        agrees(stats[entry], [tiles[:, band][tiles[:, band] != 0] for band in range(13)], absent=(10,))
    assert {name: values[10] for name, values in stats["sentinel2_l2a"].items()} == {key: 0.0 for key in ZERO}
    radar = stored["sentinel1"][train]
    agrees(stats["sentinel1"], [radar[:, band][np.isfinite(radar[:, band])] for band in range(8)])
    agrees(stats["aster"], [stored["aster"][train, band] for band in range(2)])
    published = json.loads((folder / "data_1M_v001_64_band_stats.json").read_text())
    for entry in ("sentinel2_l1c", "sentinel2_l2a"):
        # Its extremes are of these tiles; its means and deviations are of all MMEarth.
        assert stats[entry]["max"] == published[entry]["max"]
