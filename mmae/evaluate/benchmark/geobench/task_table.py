"""The twelve tasks of GEO-Bench v1 (Lacoste et al., NeurIPS 2023): what the suite's pickled descriptions say.

The files do not name the level of Sentinel-2 images. Those of `SURE_LEVELS` are stated by the sources of the tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from mmae.evaluate.benchmark.tasks.benchmark_task import Kind, TaskInfo
from mmae.modalities import S2Level

Sensor = Literal["sentinel1", "sentinel2", "landsat8", "picture"]
Values = Literal["dn", "reflectance", "picture"]


@dataclass(frozen=True)
class TaskRow:
    """One task.

    Attributes:
        info: what it asks for.
        sensors: the sensors of its bands: names of bands mean different bands in different sensors.
        values: of the images: digital numbers, reflectance from 0 to 1, or 8-bit pictures.
        level: of Sentinel-2 images.
    """

    info: TaskInfo
    sensors: tuple[Sensor, ...]
    values: Values
    level: S2Level | None = None

    @property
    def folder(self) -> str:
        """The folder of the suite that holds the task's own."""
        return "segmentation_v1.0" if self.info.kind == "segmentation" else "classification_v1.0"


def _row(
    name: str, kind: Kind, outputs: int, sensors: tuple[Sensor, ...], values: Values, level: S2Level | None = None
) -> TaskRow:
    metric: Final = {"classification": "accuracy", "multilabel": "micro_f1", "segmentation": "miou"}[kind]
    return TaskRow(TaskInfo(name, kind, outputs, metric), sensors, values, level)


_ROWS: Final = (
    _row("m-bigearthnet", "multilabel", 43, ("sentinel2",), "dn", "l2a"),
    _row("m-so2sat", "classification", 17, ("sentinel1", "sentinel2"), "reflectance", "l1c"),
    _row("m-brick-kiln", "classification", 2, ("sentinel2",), "dn", "l2a"),
    _row("m-forestnet", "classification", 12, ("landsat8",), "picture"),
    _row("m-eurosat", "classification", 10, ("sentinel2",), "dn", "l1c"),
    _row("m-pv4ger", "classification", 2, ("picture",), "picture"),
    _row("m-cashew-plant", "segmentation", 7, ("sentinel2",), "dn", "l2a"),
    _row("m-SA-crop-type", "segmentation", 10, ("sentinel2",), "dn", "l2a"),
    _row("m-chesapeake", "segmentation", 7, ("picture",), "picture"),
    _row("m-pv4ger-seg", "segmentation", 2, ("picture",), "picture"),
    _row("m-NeonTree", "segmentation", 2, ("picture",), "picture"),
    _row("m-nz-cattle", "segmentation", 2, ("picture",), "picture"),
)

TASKS: Final = MappingProxyType({row.info.name: row for row in _ROWS})

SURE_LEVELS: Final = frozenset({"m-eurosat", "m-bigearthnet"})
"""Tasks whose level is documented. That of the others is what their sources are said to have used."""
