"""Names of GEO-Bench's bands as MMEarth's: the sensor comes first, since `05` is near infrared in one and red edge in
another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from mmae.evaluate.benchmark.geobench.task_table import Sensor

SENTINEL2: Final = MappingProxyType(
    {
        "01 - Coastal aerosol": "B1",
        "02 - Blue": "B2",
        "03 - Green": "B3",
        "04 - Red": "B4",
        "05 - Vegetation Red Edge": "B5",
        "06 - Vegetation Red Edge": "B6",
        "07 - Vegetation Red Edge": "B7",
        "08 - NIR": "B8",
        "08A - Vegetation Red Edge": "B8A",
        "09 - Water vapour": "B9",
        "10 - SWIR - Cirrus": "B10",
        "11 - SWIR": "B11",
        "12 - SWIR": "B12",
    }
)

_NAMES: Final[Mapping[Sensor, Mapping[str, tuple[str, str]]]] = MappingProxyType(
    {
        "sentinel2": {name: ("sentinel2", band) for name, band in SENTINEL2.items()},
        # The files do not say the orbit. What is not filtered is complex amplitude, which MMEarth does not have.
        "sentinel1": {"06 - VV.LEE Filtered": ("sentinel1", "asc VV"), "05 - VH.LEE Filtered": ("sentinel1", "asc VH")},
        "landsat8": {
            "02 - Blue": ("sentinel2", "B2"),
            "03 - Green": ("sentinel2", "B3"),
            "04 - Red": ("sentinel2", "B4"),
            "05 - NIR": ("sentinel2", "B8"),
            "06 - SWIR1": ("sentinel2", "B11"),
            "07 - SWIR2": ("sentinel2", "B12"),
        },
        "picture": {
            "Red": ("sentinel2", "B4"),
            "Green": ("sentinel2", "B3"),
            "Blue": ("sentinel2", "B2"),
            "NearInfrared": ("sentinel2", "B8"),
        },
    }
)
"""Sensor -> name in the files -> MMEarth's dataset and band. Colours of other sensors are taken for Sentinel-2's."""

OTHER_SENSORS: Final = frozenset({"landsat8", "picture"})


def find_bands(
    sensors: Sequence[Sensor], stored: Iterable[str], corrected: Mapping[str, str | None]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Which of the files' bands are which of MMEarth's.

    Args:
        sensors: of the task.
        stored: names of bands in the files, without dates.
        corrected: name in the files -> the Sentinel-2 band that it really is, None where it is none.

    Returns:
        Dataset -> MMEarth's band -> name in the files; and the names that are none of MMEarth's.
    """
    known = {name: band for sensor in sensors for name, band in _NAMES[sensor].items()}
    found: dict[str, dict[str, str]] = {}
    unknown = []
    for name in sorted(stored):
        if name in corrected:
            real = corrected[name]
            place = None if real is None else ("sentinel2", real)
        else:
            place = known.get(name)
        if place is None:
            unknown.append(name)
        else:
            found.setdefault(place[0], {})[place[1]] = name
    return found, unknown
