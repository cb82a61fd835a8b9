"""torchgeo-bench's names of optical bands in Sentinel-2's terms, mended where a data set has them wrong."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Final, Protocol


class BandSpec(Protocol):
    """What is read of torchgeo-bench's description of a band; numbers are in the data set's units."""

    sensor: str
    name: str
    mean: float
    max: float


BANDS: Final = MappingProxyType(
    {
        **{name: f"B{number}" for number, name in enumerate(("blue", "green", "red"), start=2)},
        **{f"red_edge_{number}": f"B{number + 4}" for number in (1, 2, 3)},
        **{f"b{number:02}": f"B{number}" for number in range(1, 13)},
        "nir": "B8",
        "red_edge_4": "B8A",
        "b8a": "B8A",
        "swir_1": "B11",
        "swir_2": "B12",
    }
)
"""torchgeo-bench's names of optical bands -> Sentinel-2's."""

EUROSAT: Final = MappingProxyType(
    {"red_edge_4": "B9", "water_vapour": "B10", "swir_cirrus": "B11", "swir_1": "B12", "swir_2": "B8A"}
)
"""What the last bands of m-eurosat really are. A mean of the cirrus band's size under another name proves it."""

BRICK_KILN: Final = MappingProxyType(
    {
        "red_edge_2": "B7",
        "red_edge_3": "B8A",
        "nir": "B8",
        "red_edge_4": "B11",
        "water_vapour": "B12",
        **dict.fromkeys(("swir_cirrus", "swir_1", "swir_2"), "8-bit colour"),
    }
)
"""The same of m-brick-kiln. A cirrus band that ends at 255, where others have thousands, proves it."""

RADAR: Final = ("sar", "s1", "s1_asc", "s1_desc")


def channels_of(bands: Sequence[BandSpec]) -> dict[str, int]:
    """Sentinel-2's name of each optical band of a data set, and its channel; mended where the names are wrong."""
    named = {band.name: band for band in bands}
    mended = {}
    if "water_vapour" in named and named["water_vapour"].max > 10 and named["water_vapour"].mean < 100:
        mended = dict(EUROSAT)
    elif "swir_cirrus" in named and named["swir_cirrus"].max <= 255 < max(band.max for band in bands):
        mended = dict(BRICK_KILN)
    return {
        mended.get(band.name) or BANDS[band.name]: channel
        for channel, band in enumerate(bands)
        if band.sensor not in RADAR and (band.name in mended or band.name in BANDS)
    }
