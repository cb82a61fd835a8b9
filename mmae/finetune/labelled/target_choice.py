"""From `task.target` to a source of labels, and to the inputs that it leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmae.config.finetune_checks import CLASSES, DENSE
from mmae.errors import InputError, did_you_mean
from mmae.finetune.labelled.label_file import LabelFile, read_label_file
from mmae.finetune.labelled.label_sources import LabelSource, MapLabels, VectorLabels, class_codes
from mmae.finetune.labelled.tile_reading import read_tiles
from mmae.modalities import MODALITIES, Modality

if TYPE_CHECKING:
    from mmae.config.finetune_schema import TaskConfig
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.data.shards.index import Index

_ALSO: Final = {
    "elevation": "depth",
    "aster": "depth",
    "esa_worldcover": "semseg",
    "worldcover": "semseg",
    "canopy_height_eth": "canopy_height",
}
"""Other names of maps that can be predicted."""
_VECTOR_SAMPLES: Final = 4096
_IMAGE_NDIM: Final = 3


def choose_target(task: TaskConfig, each: ShardSet) -> tuple[LabelSource, LabelFile | None]:
    """The source of labels that a task names.

    Raises:
        InputError: the set has no such labels, or they do not fit the kind of task.
    """
    if task.labels is not None:
        found = read_label_file(Path(task.labels), task.kind, each.index)
        return found.source, found
    modality = map_of(task.target)
    if modality is not None:
        return _map(task, modality, each.index), None
    return _vector(task, each), None


def map_of(name: str) -> Modality | None:
    """The modality of a name, if it is that of a map."""
    return MODALITIES.get(_ALSO.get(name, name))


def held_back(source: LabelSource) -> tuple[str, ...]:
    """Modalities of the same dataset as the labels: they must not be inputs."""
    return tuple(name for name, row in MODALITIES.items() if row.dataset in source.datasets)


def _map(task: TaskConfig, modality: Modality, index: Index) -> MapLabels:
    if modality.dataset not in index.datasets:
        raise InputError(
            f"{index.folder}: no dataset {modality.dataset!r}, which task.target={task.target} needs: repack with it"
        )
    classes = task.kind in CLASSES or task.kind == "multilabel"
    if classes != modality.categorical:
        fitting = (
            "classification, multilabel or segmentation" if modality.categorical else "regression or pixel_regression"
        )
        raise InputError(f"task.target={task.target} does not fit task.kind={task.kind}: use {fitting}")
    return MapLabels(modality, task.kind, task.least_share)


def _vector(task: TaskConfig, each: ShardSet) -> VectorLabels:
    index, name = each.index, task.target
    maps = [known for known in (*MODALITIES, *_ALSO) if (found := map_of(known)) and found.dataset in index.datasets]
    vectors = [known for known, info in index.datasets.items() if len(info.shape) < _IMAGE_NDIM]
    if name not in vectors:
        raise InputError(
            f"{index.folder}: no labels {name!r} (task.target){did_you_mean(name, sorted({*maps, *vectors}))}"
        )
    if task.kind in DENSE:
        raise InputError(f"task.target={name} holds a few numbers a tile, and task.kind={task.kind} needs one a pixel")
    info = index.datasets[name]
    length = int(np.prod(info.shape, dtype=np.int64))
    source = VectorLabels(name, task.kind, length)
    if task.kind != "classification":
        return source
    codes = _codes(each, name)
    if len(codes) < 2:
        raise InputError(
            f"{index.folder}: {name} has {len(codes)} class among its tiles, two are needed: choose another target"
        )
    return replace(source, codes_K=codes)


def _codes(each: ShardSet, dataset: str) -> tuple[int, ...]:
    """Codes of the classes that the set's tiles have; of a large set, every k-th tile is read."""
    count = len(each.index)
    places = np.arange(0, count, max(1, count // _VECTOR_SAMPLES), dtype=np.int64)
    found: set[Any] = set()
    for batch in read_tiles(each, (dataset,), places):
        found.update(class_codes(batch.pixels[dataset].flatten(1)).tolist())
    return tuple(sorted(found - {-1}))
