"""A task's own statistics in place of the model's: for pictures without units, and on request for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.evaluate.benchmark.encoding.band_choice import Column, with_columns
from mmae.evaluate.benchmark.tasks.benchmark_task import TRAIN
from mmae.modalities import BY_LEVEL, DATASET_BANDS, MODALITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.evaluate.benchmark.tasks.benchmark_task import BenchmarkTask
    from mmae.modalities import S2Level

_FITTED: Final = 256
"""Training tiles that the statistics are of."""


def task_statistics(
    task: BenchmarkTask,
    columns: Mapping[str, Sequence[Column]],
    places: Mapping[str, Sequence[int]],
    shift: Mapping[str, float],
    level: S2Level,
    band_stats: Mapping[str, Any],
) -> dict[str, Any]:
    """The model's statistics, with those of the task's training tiles for the bands that it has.

    Args:
        columns: dataset -> the bands that the encoder is given.
        places: dataset -> the index among MMEarth's bands of each.
        shift: dataset -> what is added to its values.
        level: whose entry Sentinel-2's statistics become.
        band_stats: the model's.
    """
    ids = task.splits[TRAIN]
    arrays = task.read(ids[:: max(1, len(ids) // _FITTED)][:_FITTED]).arrays
    stats = dict(band_stats)
    for dataset, row in columns.items():
        if any(each.categorical for each in MODALITIES.values() if each.dataset == dataset):
            continue
        entry = f"{dataset}_{level}" if dataset in BY_LEVEL else dataset
        numbers = {key: _numbers(stats.get(entry), key, DATASET_BANDS[dataset]) for key in ("mean", "std")}
        values_BCHW = with_columns(arrays[dataset], row) + shift.get(dataset, 0)
        for place, pixels_BHW in zip(places[dataset], np.moveaxis(values_BCHW, 1, 0), strict=True):
            pixels = _with_data(pixels_BHW, dataset)
            if len(pixels):
                numbers["mean"][place], numbers["std"][place] = float(pixels.mean()), float(pixels.std()) or 1.0
        stats[entry] = numbers
    return stats


def _numbers(entry: Any, key: str, bands: int) -> list[float]:
    known = entry.get(key) if isinstance(entry, Mapping) else None
    return list(known) if isinstance(known, list) and len(known) == bands else [float(key == "std")] * bands


def _with_data(pixels: NDArray[Any], dataset: str) -> NDArray[np.float64]:
    pixels = pixels.astype(np.float64)
    known: NDArray[np.float64] = pixels[np.isfinite(pixels) & ((pixels > 0) | (dataset != "sentinel2"))]
    return known
