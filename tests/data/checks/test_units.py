"""Stored values against statistics: a problem is what no place on Earth explains; a desert or a lake is fine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mmae.data.checks.units import code_problem, thinned, unit_problem

BANDS = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8A", "B8", "B9", "B10", "B11", "B12"]
MEAN = [1865, 1657, 1561, 1634, 1847, 2422, 2706, 2908, 2621, 975, 39, 2154, 1465]
STD = [1520, 1575, 1474, 1735, 1697, 1585, 1578, 1560, 1519, 823, 62, 1312, 1140]
STATS: dict[str, Any] = {
    "sentinel2_l1c": {"mean": MEAN, "std": STD},
    "sentinel2_l2a": {"mean": [*MEAN[:10], 0, *MEAN[11:]], "std": [*STD[:10], 0, *STD[11:]]},
    "sentinel1": {"mean": [-12.0] * 8, "std": [5.0] * 8},
    "aster": {"mean": [700.0, 5.0], "std": [900.0, 6.0]},
    "canopy_height_eth": {"mean": [10.0, 3.0], "std": [9.0, 2.0]},
}


def land(level: str, tiles: int = 16) -> Any:
    """Plausible tiles, uint16 (T, 13, 8, 8): brightness differs from tile to tile and from pixel to pixel."""
    draw = np.random.default_rng(0)
    light = draw.uniform(0.15, 1.6, (tiles, 1, 8, 8)) * draw.uniform(0.5, 1.2, (tiles, 1, 1, 1))
    stored = (np.array(STATS[f"sentinel2_{level}"]["mean"])[:, None, None] * light).astype(np.uint16)
    return np.where(stored < 1, 0 if level == "l2a" else 1, stored) if level == "l1c" else stored


def problem(entry: str, stored: Any, stats: Any = STATS) -> str:
    return unit_problem(entry, np.stack([thinned(tile, entry) for tile in stored]), stats) or ""


@pytest.mark.parametrize("level", ["l1c", "l2a"])
def test_correct_values_give_no_problem(level: str) -> None:
    entry, stored = f"sentinel2_{level}", land(level)
    assert problem(entry, stored) == ""
    assert all(problem(entry, stored[number : number + 1]) == "" for number in range(len(stored)))
    assert problem(entry, np.minimum(stored, 60_000) * 5) == "", "snow"
    assert problem(entry, stored // 8) == "", "the sea"
    desert = stored + np.array([900, 1200, 1900, 2600, 2900, 3000, 3100, 3200, 3100, 800, 0, 4000, 3500])[:, None, None]
    assert problem(entry, desert) == ""


@pytest.mark.parametrize("level", ["l1c", "l2a"])
def test_scale(level: str) -> None:
    entry, stored = f"sentinel2_{level}", land(level)
    for wrong in ((stored / 10_000).astype(np.float32), stored / 100, np.clip(stored // 12, 0, 255).astype(np.uint8)):
        assert problem(entry, wrong).startswith("scale: ")
        assert "reflectance x 10000" in problem(entry, wrong)
    small = {entry: {kind: (np.array(STATS[entry][kind]) / 10_000).tolist() for kind in ("mean", "std")}}
    assert problem(entry, stored, small).startswith("scale: ")
    assert problem(entry, (stored / 10_000).astype(np.float32), small) == "", "statistics of these values"
    assert problem(entry, (stored[:1] / 10_000).astype(np.float32)).startswith("scale: "), "one tile is enough"


@pytest.mark.parametrize("level", ["l1c", "l2a"])
def test_impossible_deviations_are_a_problem(level: str) -> None:
    entry, stored = f"sentinel2_{level}", land(level)
    own = STATS[entry]
    variances = {entry: own | {"std": [value**2 for value in own["std"]]}}
    assert problem(entry, stored, variances).startswith("scale: the band at place")
    one = {entry: {kind: [*own[kind][:3], own[kind][3] / 10_000, *own[kind][4:]] for kind in ("mean", "std")}}
    assert problem(entry, stored, one).startswith("scale: the band at place 3 deviates by")
    still = np.broadcast_to(np.array(own["mean"])[:, None, None] // 8, stored.shape).astype(np.uint16)
    assert problem(entry, still) == "", "water that does not vary"


@pytest.mark.parametrize("level", ["l1c", "l2a"])
def test_the_offset_of_newer_products(level: str) -> None:
    entry, stored = f"sentinel2_{level}", land(level)
    later = np.where(stored > 0, stored + 1000, 0)
    assert "subtract 1000" in problem(entry, later)
    own = {kind: np.array(STATS[entry][kind], np.float64) for kind in ("mean", "std")}
    own["mean"][own["mean"] > 0] += 1000
    table = {kind: values.tolist() for kind, values in own.items()}
    table["min"] = [1005.0 if mean else 0.0 for mean in table["mean"]]
    assert problem(entry, later, {entry: table}) == "", "statistics of these values"


def test_the_other_level() -> None:
    assert "they are L1C" in problem("sentinel2_l2a", land("l1c"))
    assert "they are L2A" in problem("sentinel2_l1c", land("l2a"))


@pytest.mark.parametrize("level", ["l1c", "l2a"])
@pytest.mark.parametrize(
    "order", [sorted(range(13), key=BANDS.__getitem__), list(range(13))[::-1], [*range(10), 11, 12, 10]]
)
def test_the_order_of_bands(level: str, order: list[int]) -> None:
    found = problem(f"sentinel2_{level}", land(level)[:, order])
    assert f"the darkest band stands at place {order.index(10)}" in found


def test_radar_in_decibels() -> None:
    stored = np.random.default_rng(0).normal(-12, 4, (8, 8, 8, 8)).astype(np.float32)
    stored[:, 4:] = -np.inf
    assert problem("sentinel1", stored) == ""
    assert "10 log10" in problem("sentinel1", np.where(np.isfinite(stored), 10 ** (stored / 10), stored))
    assert problem("sentinel1", stored * 100).startswith("scale: ")


def test_other_datasets() -> None:
    flat = np.zeros((8, 2, 8, 8), np.int16)
    assert problem("aster", flat) == "", "a flat sea"
    assert problem("aster", flat + 8000) == "", "tiles are standardised by themselves"
    canopy = np.random.default_rng(0).integers(0, 40, (8, 2, 8, 8)).astype(np.int16)
    assert problem("canopy_height_eth", canopy) == ""
    assert problem("canopy_height_eth", canopy * 100).startswith("scale: ")
    constant = {"canopy_height_eth": {"mean": [0.0, 0.0], "std": [0.0, 0.0]}}
    assert "that it never changes" in problem("canopy_height_eth", canopy, constant)


def test_samples_that_cannot_be_judged() -> None:
    stored = land("l1c")
    assert problem("sentinel2_l1c", stored, {}) == ""
    assert problem("sentinel2_l1c", np.zeros_like(stored)) == "", "no data at all"
    assert unit_problem("sentinel2_l1c", np.empty((0, 13, 4)), STATS) is None
    assert problem("sentinel2_l1c", stored[:, :12]) == "", "counts are checked elsewhere"
    assert problem("aster", np.zeros((1, 2, 1, 1), np.int16)) == ""


def test_numbers_beyond_float64_are_reported_as_a_problem() -> None:
    assert isinstance(problem("sentinel1", np.full((8, 8, 2, 2), [-1e308, 1e308])), str)


def test_class_codes() -> None:
    codes = np.array([[10, 100], [0, 255]])
    assert code_problem("esa_worldcover", codes) is None
    assert code_problem("esa_worldcover", np.zeros((2, 0))) is None
    found = code_problem("esa_worldcover", np.array([[1, 10], [4, 4]]))
    assert found is not None
    assert found.startswith("75% of the pixels hold codes that belong to no class (1, 4)")
    assert code_problem("dynamic_world", np.array([250, 10, 0])) is None, "all of them mean no data"


@pytest.mark.long
@pytest.mark.parametrize("name", ["data_1M_v001_64", "data_100k_v001"])
def test_real_tiles(shared: Path, name: str) -> None:
    stem = f"{shared}/mini_mmearth/{name}/{name}"
    stats = json.loads(Path(f"{stem}_band_stats.json").read_text())
    with h5py.File(f"{stem}.h5") as file:
        level = np.array([kind.decode() for kind in file["metadata"]["S2_type"]])
        for of in ("l1c", "l2a"):
            entry, stored = f"sentinel2_{of}", file["sentinel2"][:][level == of]
            windows = [stored[begin : begin + 8] for begin in range(0, len(stored), 8)]
            assert [found for each in (stored[::3], *windows) if (found := problem(entry, each, stats))] == []
            assert "scale" in problem(entry, (stored[::2] / 10_000).astype(np.float32), stats)
            assert "subtract 1000" in problem(entry, np.where(stored > 0, stored + 1000, 0)[::2], stats)
        for entry in ("sentinel1", "aster"):
            assert problem(entry, file[entry][:][::7], stats) == ""
        assert code_problem("esa_worldcover", file["esa_worldcover"][:]) is None


def test_one_damaged_tile_says_nothing_about_units() -> None:
    """It trains, and is named when its step is left out."""
    entry, generator = "sentinel1", np.random.default_rng(0)
    stats = {entry: {"mean": [-15.0] * 8, "std": [4.0] * 8}}
    values_TCn = generator.normal(-15, 4, (6, 8, 50))
    assert unit_problem(entry, values_TCn, stats) is None
    values_TCn[2] = 3e38
    assert unit_problem(entry, values_TCn, stats) is None
    values_TCn[:] = 3e38
    assert unit_problem(entry, values_TCn, stats) is not None
