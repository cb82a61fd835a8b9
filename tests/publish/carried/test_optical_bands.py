"""Which of Sentinel-2's bands a data set of torchgeo-bench has, also where its names are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mmae.publish.carried.optical_bands import channels_of

NAMES = (
    "coastal_aerosol", "blue", "green", "red", "red_edge_1", "red_edge_2", "red_edge_3", "nir", "red_edge_4",
    "water_vapour", "swir_cirrus", "swir_1", "swir_2",
)  # fmt: skip


@dataclass
class Band:
    name: str
    mean: float = 1000.0
    max: float = 20000.0
    sensor: str = "s2"


def found(*bands: Band) -> dict[str, int]:
    return channels_of(bands)


def test_long_and_short_names() -> None:
    assert found(*map(Band, NAMES)) == {
        "B2": 1, "B3": 2, "B4": 3, "B5": 4, "B6": 5, "B7": 6, "B8": 7, "B8A": 8, "B11": 11, "B12": 12
    }  # fmt: skip
    assert found(Band("b02"), Band("b8a"), Band("b12")) == {"B2": 0, "B8A": 1, "B12": 2}
    assert found(Band("nir", sensor="landsat"), Band("vv"), Band("b04", sensor="s1")) == {"B8": 0}


def test_eurosats_last_bands_have_wrong_names() -> None:
    bands = [Band(name, mean=12.3 if name == "water_vapour" else 1000.0) for name in NAMES]
    mended = found(*bands)
    assert {band: NAMES[channel] for band, channel in mended.items() if band in {"B8A", "B9", "B11", "B12"}} == {
        "B8A": "swir_2", "B9": "red_edge_4", "B11": "swir_cirrus", "B12": "swir_1"
    }  # fmt: skip
    # Reflectance between 0 and 1 is small everywhere: that proves nothing.
    assert found(*(Band(name, mean=0.1, max=1.0) for name in NAMES))["B8A"] == 8


def test_brick_kilns_last_bands_have_wrong_names() -> None:
    bands = [Band(name, max=255.0 if name in NAMES[-3:] else 9000.0) for name in NAMES]
    mended = found(*bands)
    assert {band: NAMES[mended[band]] for band in ("B7", "B8A", "B8", "B11", "B12")} == {
        "B7": "red_edge_2", "B8A": "red_edge_3", "B8": "nir", "B11": "red_edge_4", "B12": "water_vapour"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["vv", "dem", "thermal"])
def test_others_are_left_out(name: str) -> None:
    assert found(Band(name), Band("red")) == {"B4": 1}
