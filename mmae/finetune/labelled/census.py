"""What labels there are: counted in each split before a training, said, and the basis of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmae.data.transforms.crop import centre_corners, source_index
from mmae.disk.files import file_name
from mmae.errors import InputError
from mmae.finetune.labelled.label_sources import LabelSource, known
from mmae.finetune.labelled.tile_reading import read_tiles
from mmae.model.tuned.task import Task
from mmae.terminal.plurals import counted
from mmae.terminal.table import Column, Table, Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.config.finetune_schema import TaskConfig
    from mmae.data.sampling.shard_sets import ShardSet
    from mmae.types import Batch

MOST_TILES: Final = 2048
"""Tiles of a split that are read; of a larger one, every k-th."""
_SHOWN: Final = 40
_MAP_NDIM: Final = 3


@dataclass(frozen=True, eq=False)
class SplitCensus:
    """The labels of a split's tiles.

    Attributes:
        tiles: in the split.
        read: of them.
        labelled: of those that were read, tiles with a label that is known.
        known: labels (of tiles, or of pixels) that are known.
        count_K: float64, labels of each class.
        mean_K, std_K, low_K, high_K: float64, of each target of a regression, in its units; NaN without a label.
        known_K: int64, known labels of each class of several, or of each target; None where a label is one class.
    """

    tiles: int
    read: int
    labelled: int
    known: int
    count_K: NDArray[np.float64]
    mean_K: NDArray[np.float64]
    std_K: NDArray[np.float64]
    low_K: NDArray[np.float64]
    high_K: NDArray[np.float64]
    known_K: NDArray[np.int64] | None = None

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each class among the known labels (of several: among the tiles of which it is known)."""
        return self.count_K / np.maximum(1, self.known if self.known_K is None else self.known_K)


Census = Mapping[str, SplitCensus]
"""By split: train, val, and test if there is one."""


def take_census(each: ShardSet, positions: NDArray[np.int64], source: LabelSource) -> SplitCensus:
    """Read the labels of a split's whole tiles.

    Raises:
        InputError: a tile is damaged, or a shard is missing.
    """
    chosen = positions[:: max(1, len(positions) // MOST_TILES)]
    datasets = source.datasets or tuple(each.index.datasets)[:1]
    labels = [source.labels(batch, _whole_tiles(batch, source)) for batch in read_tiles(each, datasets, chosen)]
    return count_labels(torch.cat(labels) if labels else torch.empty(0), len(positions), len(source.names))


def count_labels(labels: torch.Tensor, tiles: int, outputs: int) -> SplitCensus:
    """The census of labels as `LabelSource.labels` gives them.

    Args:
        tiles: in the split, of which some were read.
        outputs: number of classes or targets, K.
    """
    known_labels = known(labels)
    labelled = int(known_labels.flatten(1).any(1).sum()) if labels.dim() > 1 else int(known_labels.sum())
    nothing = np.full(outputs, np.nan)
    if not labels.is_floating_point():
        count_K = torch.bincount(labels[known_labels], minlength=outputs).to(torch.float64).numpy()
        return SplitCensus(tiles, len(labels), labelled, int(known_labels.sum()), count_K, *(nothing,) * 4)
    values_KX = labels.movedim(1, 0).flatten(1).to(torch.float64).numpy() if labels.numel() else np.empty((outputs, 0))
    count_K = np.nansum(values_KX, axis=1)
    numbers = [values[np.isfinite(values)] for values in values_KX]
    mean_K, std_K, low_K, high_K = np.array(
        [(each.mean(), each.std(), each.min(), each.max()) if each.size else (np.nan,) * 4 for each in numbers]
    ).T
    known_K = np.isfinite(values_KX).sum(1)
    most = int(known_K.max(initial=0))
    return SplitCensus(tiles, len(labels), labelled, most, count_K, mean_K, std_K, low_K, high_K, known_K)


def task_of(config: TaskConfig, source: LabelSource, train: SplitCensus, where: str) -> Task:
    """The task that a model learns from these labels.

    Raises:
        InputError: no training label is known, or all training labels are alike.
    """
    name = config.target
    if not train.known:
        raise InputError(f"{where}: no training tile has a known label {name!r} (task.target): choose another target")
    if config.kind in {"regression", "pixel_regression"}:
        flat = [names for names, std in zip(source.names, train.std_K, strict=True) if not std > 0]
        if flat:
            raise InputError(
                f"{where}: the training labels of {', '.join(flat)} are all alike or unknown: nothing to learn"
            )
        task = Task(
            config.kind,
            _task_name(name),
            targets=source.names,
            units=source.units,
            mean=tuple(train.mean_K.tolist()),
            std=tuple(train.std_K.tolist()),
        )
    else:
        if config.kind != "multilabel" and (train.count_K > 0).sum() < 2:
            only = source.names[int(train.count_K.argmax())]
            raise InputError(f"{where}: all training labels are of one class ({only}): nothing to learn")
        if config.kind == "multilabel" and bool(((train.count_K == 0) | (train.count_K == train.known_K)).all()):
            raise InputError(f"{where}: of each class, all training labels are alike: nothing to learn")
        ignore = None if config.kind == "multilabel" else -1
        task = Task(config.kind, _task_name(name), classes=source.names, class_codes=source.codes, ignore=ignore)
    task.check()
    return task


def census_table(task: Task, census: Census) -> Table:
    """Classes and their shares, or targets and their range, in each split."""
    splits = list(census)
    if task.regression:
        columns = [Column("target", "target"), *(Column(each, f"{each}: mean ± deviation (range)") for each in splits)]
        rows = [_target_row(task, census, place) for place in range(task.outputs)]
        return Table(f"labels: {task.name}", columns, rows)
    columns = [Column("class", "class"), *(Column(each, f"{each} %", "{:.1f}") for each in splits)]
    most = np.argsort(-census["train"].count_K, kind="stable")
    rows = []
    for place in most[:_SHOWN].tolist():
        shares: dict[str, Value] = {each: 100 * float(census[each].shares[place]) for each in splits}
        rows.append({"class": task.classes[place], **shares})
    notes = [f"and {counted(task.outputs - _SHOWN, 'class', 'classes')} more"] if task.outputs > _SHOWN else []
    return Table(f"labels: {task.name}", columns, rows, notes)


def census_notes(task: Task, census: Census) -> Iterator[str]:
    """What is odd about the labels, in words."""
    for split, each in census.items():
        if each.read < each.tiles:
            yield f"{split}: labels of {each.read} of {each.tiles} tiles were read"
        if each.labelled < each.read:
            left = counted(each.read - each.labelled, "tile")
            yield f"{split}: {left} of {each.read} without a known label: not scored"
    if task.regression:
        return
    train = census["train"].count_K
    never = [name for name, count in zip(task.classes, train, strict=True) if not count]
    if never:
        yield f"no training label: {', '.join(never)}"
    for split in ("val", "test"):
        if split in census:
            surprising = [task.classes[place] for place in np.flatnonzero(census[split].count_K * (train == 0))]
            if surprising:
                named = ", ".join(surprising)
                yield f"{split} holds classes that training never sees, so they count as errors: {named}"


def _target_row(task: Task, census: Census, place: int) -> dict[str, Value]:
    row: dict[str, Value] = {"target": f"{task.targets[place]} {task.units[place]}".strip()}
    for split, each in census.items():
        mean, std, low, high = (float(numbers[place]) for numbers in (each.mean_K, each.std_K, each.low_K, each.high_K))
        row[split] = f"{mean:.4g} ± {std:.4g} ({low:.4g} to {high:.4g})"
    return row


def _whole_tiles(batch: Batch, source: LabelSource) -> torch.Tensor:
    """The index of every pixel of tiles that are not cropped, int64 (B, H, W); (B, 1, 1) where there are no maps."""
    maps: list[Any] = [batch.pixels[name] for name in source.datasets if batch.pixels[name].dim() >= _MAP_NDIM]
    tile_hw = tuple(maps[0].shape[-2:]) if maps else (1, 1)
    top_B, left_B = centre_corners(batch.key_B, tile_hw, tile_hw)
    return source_index(top_B, left_B, torch.zeros_like(top_B), tile_hw, tile_hw[1])


def _task_name(name: str) -> str:
    """The target's name, as it names files."""
    safe = file_name(name)
    return safe[:100] if safe[:1].isalnum() else f"target_{safe}"[:100]
