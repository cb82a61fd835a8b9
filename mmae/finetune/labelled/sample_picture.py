"""One picture of a batch as the model sees it: inputs and labels, after normalisation, crops, turns and mixing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.disk.files import atomic_file
from mmae.evaluate.pictures.colours import Stretch, colour_classes
from mmae.evaluate.pictures.plain_grid import grid
from mmae.modalities import MODALITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.finetune.labelled.label_sources import LabelSource
    from mmae.finetune.labelled.tuning_samples import Samples
    from mmae.model.tuned.task import Task

TILES: Final = 4
_CELL: Final = 64


def write_sample_picture(path: Path, samples: Samples, task: Task, source: LabelSource) -> None:
    """Draw the first tiles of a batch: a row a modality and one for the labels, a column a tile.

    Raises:
        OSError: the file cannot be written.
    """
    count = min(TILES, len(samples.inputs.real_B))
    rows = []
    for name, values in samples.inputs.values.items():
        row, valid = MODALITIES[name], samples.inputs.valid[name].cpu().numpy()
        shown = values.cpu().numpy()
        if row.categorical:
            cells = [colour_classes(shown[tile], row) for tile in range(count)]
        else:
            cells = [Stretch.of(shown[tile], valid[tile]).colour(shown[tile], valid[tile]) for tile in range(count)]
        rows.append((name, cells))
    titles = [f"tile {tile + 1}" for tile in range(count)]
    if task.dense:
        rows.append(("label", [_map(samples, tile, task, source) for tile in range(count)]))
    else:
        titles = [_said(samples, tile, task) for tile in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        grid(rows, titles).save(file, "PNG")


def _map(samples: Samples, tile: int, task: Task, source: LabelSource) -> NDArray[np.uint8]:
    label = samples.labels[tile].cpu().numpy()
    modality = getattr(source, "modality", None)
    if task.kind == "segmentation" and modality is not None:
        return colour_classes(np.where(label < 0, modality.no_data_class, label), modality)
    valid = np.isfinite(label)
    return Stretch.of(label, valid).colour(np.where(valid, label, 0), valid)


def _said(samples: Samples, tile: int, task: Task) -> str:
    label = samples.labels[tile]
    if task.kind == "classification":
        return task.classes[int(label)] if int(label) >= 0 else "unknown"
    if task.kind == "multilabel":
        return ", ".join(name for name, has in zip(task.classes, label.tolist(), strict=True) if has == 1)[:30]
    return f"{label[0].item():.4g} {task.units[0]}"
