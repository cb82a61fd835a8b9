"""From `task.target` to a source of labels, and to the inputs that it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mmae.config.finetune_checks import CLASSES, DENSE
from mmae.config.finetune_schema import SourceConfig
from mmae.errors import InputError, did_you_mean
from mmae.finetune.labelled.label_file import LabelFile, read_label_file
from mmae.finetune.labelled.label_sources import LabelSource, MapLabels, VectorLabels, class_codes
from mmae.finetune.labelled.packed_labels import is_mask, labels_of_index, mask_labels
from mmae.finetune.labelled.tile_reading import read_tiles
from mmae.modalities import MODALITIES, Modality

if TYPE_CHECKING:
    from torch import Tensor

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
_NO_MASKS: Final = SourceConfig()
_VECTOR_SAMPLES: Final = 4096
_IMAGE_NDIM: Final = 3


def choose_target(
    task: TaskConfig, each: ShardSet, masks: SourceConfig = _NO_MASKS
) -> tuple[LabelSource, LabelFile | None]:
    """The source of labels that a task names.

    Args:
        masks: the classes of masks, and the numbers in them that are not scored.

    Raises:
        InputError: the set has no such labels, or they do not fit the kind of task.
    """
    index, name = each.index, task.target
    own_mask = task.labels is None and name in index.datasets and map_of(name) is None
    if own_mask and (is_mask(index, name) or (task.kind in DENSE and len(index.datasets[name].shape) > 1)):
        return mask_labels(each, name, task.kind, masks), None
    if masks.classes is not None or masks.ignore:
        key = "source.ignore" if masks.classes is None else "source.classes"
        raise InputError(f"{key} is for masks of your own, and task.target={name} is none: leave it out")
    if task.labels is not None:
        found = read_label_file(Path(task.labels), task.kind, each.index)
        return found.source, found
    if name in index.labels:
        if task.kind in DENSE:
            raise InputError(f"task.target={name} is a label a tile, and task.kind={task.kind} needs one a pixel")
        return labels_of_index(index, name, task.kind), None
    modality = map_of(name)
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
    maps = [
        each_map
        for each_map in (*MODALITIES, *_ALSO)
        if (found := map_of(each_map)) and found.dataset in index.datasets
    ]
    vectors = [vector for vector, info in index.datasets.items() if len(info.shape) < _IMAGE_NDIM]
    if name not in vectors:
        known = sorted({*maps, *vectors, *index.labels})
        raise InputError(f"{index.folder}: no labels {name!r} (task.target){did_you_mean(name, known)}")
    if task.kind in DENSE:
        raise InputError(f"task.target={name} holds a few numbers a tile, and task.kind={task.kind} needs one a pixel")
    info = index.datasets[name]
    length = int(np.prod(info.shape, dtype=np.int64))
    source = VectorLabels(name, task.kind, length)
    if task.kind == "multilabel":
        _check_present_or_not(each, name)
    if task.kind != "classification":
        return source
    codes = _codes(each, name)
    if len(codes) < 2:
        raise InputError(
            f"{index.folder}: {name} has {len(codes)} class among its tiles, two are needed: choose another target"
        )
    return replace(source, codes_K=codes)


def _check_present_or_not(each: ShardSet, dataset: str) -> None:
    for values in _sampled(each, dataset):
        for number in np.unique(values.numpy()).tolist():
            if number not in {0, 1} and np.isfinite(number):
                raise InputError(
                    f"{each.index.folder}: {dataset} (task.target) holds {number:g}, and task.kind=multilabel needs 0 "
                    "or 1: use task.kind=regression"
                )


def _codes(each: ShardSet, dataset: str) -> tuple[int, ...]:
    """Codes of the classes that the set's tiles have."""
    found: set[int] = set()
    for values in _sampled(each, dataset):
        found.update(class_codes(values.flatten(1)).tolist())
    return tuple(sorted(found - {-1}))


def _sampled(each: ShardSet, dataset: str) -> Iterator[Tensor]:
    """A dataset's numbers, batch after batch; of a large set, every k-th tile is read."""
    count = len(each.index)
    places = np.arange(0, count, max(1, count // _VECTOR_SAMPLES), dtype=np.int64)
    for batch in read_tiles(each, (dataset,), places):
        yield batch.pixels[dataset]
