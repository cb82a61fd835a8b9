"""Predictions of tiles as a Parquet file: key, place, label and prediction of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmae.disk.files import atomic_file, writing
from mmae.distributed.collectives import gather, on_rank_0
from mmae.scenes.files.geo_extra import pyarrow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from mmae.data.shards.index import Index
    from mmae.finetune.labelled.tuning_samples import Samples
    from mmae.model.tuned.task import Task
    from mmae.types import Batch


@dataclass(frozen=True, eq=False)
class TilePredictions:
    """Predictions of some tiles.

    Attributes:
        row_N: int64, source rows.
        predicted_NK: float32, probabilities or numbers in units.
        label_N: as `LabelSource.labels` gives them.
    """

    row_N: NDArray[np.int64]
    predicted_NK: NDArray[np.float32]
    label_N: NDArray[Any]


class PredictionTable:
    """Collects the predictions of this rank; `write` is collective."""

    def __init__(self) -> None:
        self._parts: list[TilePredictions] = []

    def take(self, predicted: Tensor, samples: Samples, batch: Batch) -> None:
        """Take the real tiles of a batch."""
        arrays = (each[batch.real_B].cpu().numpy() for each in (batch.row_B, predicted.float(), samples.labels))
        self._parts.append(TilePredictions(*arrays))

    def write(self, path: Path, index: Index, split: str, task: Task) -> None:
        """Write the predictions of all ranks, in the order of the set's index.

        Raises:
            InputError: the file cannot be written, or a library is missing.
        """
        parts = [each for ranks in gather(self._parts) for each in ranks]
        on_rank_0(lambda: _write(path, index, split, task, parts))


def _write(path: Path, index: Index, split: str, task: Task, parts: list[TilePredictions]) -> None:
    library = pyarrow()
    row_N = np.concatenate([each.row_N for each in parts])
    predicted_NK = np.concatenate([each.predicted_NK for each in parts])
    label_N = np.concatenate([each.label_N for each in parts])
    order = np.argsort(index.row, kind="stable")
    place_N = order[np.searchsorted(index.row[order], row_N)]
    by_place = np.argsort(place_N, kind="stable")
    place_N, predicted_NK, label_N = place_N[by_place], predicted_NK[by_place], label_N[by_place]
    columns: dict[str, Any] = {
        "key": [each.decode() for each in index.tile_id[place_N].tolist()],
        "split": [split] * len(place_N),
        "latitude": index.lat[place_N],
        "longitude": index.lon[place_N],
        **_columns(task, predicted_NK, label_N),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, "make room, or choose another run.dir"), atomic_file(path) as file:
        library.parquet.write_table(library.table(columns), file, compression="zstd")


def _columns(task: Task, predicted_NK: NDArray[np.float32], label_N: NDArray[Any]) -> dict[str, Any]:
    if task.kind == "classification":
        names = np.array([*task.classes, None], dtype=object)
        return {
            "label": names[label_N].tolist(),
            "prediction": names[predicted_NK.argmax(1)].tolist(),
            **{f"probability {name}": predicted_NK[:, place] for place, name in enumerate(task.classes)},
        }
    said = "probability" if task.kind == "multilabel" else "prediction"
    columns = {}
    for place, name in enumerate(task.classes or task.targets):
        columns[f"label {name}"] = label_N[:, place]
        columns[f"{said} {name}"] = predicted_NK[:, place]
    return columns
