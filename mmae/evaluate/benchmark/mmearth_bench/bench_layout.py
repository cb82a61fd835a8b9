"""The tables of MMEarth-Bench (arXiv 2602.06285): its tasks, and its data sets as MMEarth's."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mmae.evaluate.benchmark.tasks.benchmark_task import TaskInfo
from mmae.modalities import DATASET_BANDS

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


_NO_CIRRUS: Final = (*range(10), 11, 12)

SOURCES: Final = MappingProxyType(
    {
        "sentinel2": BenchSource(("Sentinel2",), {13: tuple(range(13)), 12: _NO_CIRRUS}),
        # VV and VH of each orbit. MMEarth also has HH and HV, which are measured near the poles only.
        "sentinel1": BenchSource(("Sentinel1",), {4: (0, 1, 4, 5), 8: tuple(range(8))}),
        "aster": BenchSource(("ASTER_GDEM", "AsterDEM"), {2: (0, 1)}),
        "canopy_height_eth": BenchSource(("ETH_GCH",), {2: (0, 1), 1: (0,)}),
        "dynamic_world": BenchSource(("DynamicWorld",), {1: (0,)}),
        "esa_worldcover": BenchSource(("ESA_WorldCover",), {1: (0,)}),
    }
)
"""MMEarth's dataset -> where the benchmark stores it."""

assert all(max(places) < DATASET_BANDS[dataset] for dataset, source in SOURCES.items()
           for places in source.places.values())  # fmt: skip
