"""The tables of MMEarth-Bench (arXiv 2602.06285): its tasks, and its data sets as MMEarth's.

What the files do not say is what the benchmark's own code writes: Sentinel-2 of level L2A, without an additive offset,
in the order B1 to B8, B8A, B9, B11, B12; and maps whose classes are counted from 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mmae.evaluate.benchmark.tasks.benchmark_task import TaskInfo
from mmae.modalities import DATASET_BANDS, S2_BANDS

TASKS: Final = MappingProxyType(
    {
        info.name: info
        for info in (
            TaskInfo("biomass", "pixel_regression", 1, "rmse"),
            TaskInfo("soil_nitrogen", "regression", 1, "rmse"),
            TaskInfo("soil_organic_carbon", "regression", 1, "rmse"),
            TaskInfo("soil_pH", "regression", 1, "rmse"),
            TaskInfo("species", "multilabel", 100, "macro_map"),
        )
    }
)

PARTITIONS: Final = MappingProxyType({"default": "100%", "100%": "100%", "50%": "50%", "5%": "5%"})
"""Names of `--partitions` -> shares of the training tiles, as the keys of the split file spell them."""

TESTS: Final = ("random_test", "geographic_test")


@dataclass(frozen=True)
class BenchSource:
    """A data set of the files.

    Attributes:
        names: that it has; older files have the second.
        places: number of bands in the file -> the index among MMEarth's bands of each.
    """

    names: tuple[str, ...]
    places: dict[int, tuple[int, ...]]


_S2_ORDER: Final = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
"""MMEarth itself has B8A before B8."""

SOURCES: Final = MappingProxyType(
    {
        "sentinel2": BenchSource(("Sentinel2",), {12: tuple(map(S2_BANDS.index, _S2_ORDER))}),
        # Of 4 bands, VV and VH of each orbit: HH and HV are measured near the poles only.
        "sentinel1": BenchSource(("Sentinel1",), {8: tuple(range(8)), 4: (0, 1, 4, 5)}),
        "aster": BenchSource(("ASTER_GDEM", "AsterDEM"), {2: (0, 1)}),
        "canopy_height_eth": BenchSource(("ETH_GCH",), {2: (0, 1), 1: (0,)}),
        "dynamic_world": BenchSource(("DynamicWorld",), {1: (0,)}),
        "esa_worldcover": BenchSource(("ESA_WorldCover",), {1: (0,)}),
    }
)
"""MMEarth's dataset -> where the benchmark stores it."""

assert all(max(places) < DATASET_BANDS[dataset] for dataset, source in SOURCES.items()
           for places in source.places.values())  # fmt: skip
