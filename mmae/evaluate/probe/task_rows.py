"""The rows of a probe: which tiles or patches have a label, in which part they are, and what was left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from mmae.data.shards.columns import UNKNOWN_BIOME
from mmae.errors import InputError
from mmae.evaluate.frozen.parts import NO_LABEL, Part, Task
from mmae.evaluate.probe.block_split import LEFT_OUT, PARTS
from mmae.evaluate.probe.probe_tasks import ProbeTask
from mmae.evaluate.probe.tile_labels import month_of
from mmae.terminal.plurals import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.data.shards.index import Columns

MOST_PATCHES: Final = 2048
"""Rows of a dense probe in train, and in val: more patches of the same tiles cost time and say little."""


class NoLabelsError(InputError):
    """A task that these shards, with these parts, cannot probe."""


@dataclass(frozen=True, eq=False)
class TaskRows:
    """Attributes:
    task: what is predicted; dropped classes are not counted.
    tile_R: int64, the tile of each row, as a position in the arrays of features.
    patch_R: int64, the patch of each row in its tile; None where a row is a tile.
    part_R: int8, index into `PARTS`.
    y_R: targets, see `Part`.
    key_R: int64, the source row of each row's tile.
    group_R: int64, rows that are drawn together for intervals.
    notes: what was left out, in plain words.
    """

    task: Task
    tile_R: NDArray[np.int64]
    patch_R: NDArray[np.int64] | None
    part_R: NDArray[np.int8]
    y_R: Tensor
    key_R: NDArray[np.int64]
    group_R: NDArray[np.int64]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.tile_R)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> TaskRows:
        """Some of the rows."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        patch_R = None if self.patch_R is None else self.patch_R[rows]
        return replace(
            self,
            tile_R=self.tile_R[rows],
            patch_R=patch_R,
            part_R=self.part_R[rows],
            y_R=self.y_R[torch.from_numpy(rows)],
            key_R=self.key_R[rows],
            group_R=self.group_R[rows],
        )

    def of_part(self, part: int) -> TaskRows:
        return self.take(self.part_R == part)

    def count(self, part: int) -> int:
        return int((self.part_R == part).sum())

    def features(self, array: NDArray[Any]) -> Part:
        """The rows with their features, from an array of all tiles (N, D) or patches (N, h, w, D)."""
        if self.patch_R is None:
            x_RD = array[self.tile_R]
        else:
            x_RD = array.reshape(len(array), -1, array.shape[-1])[self.tile_R, self.patch_R]
        return Part(torch.from_numpy(np.ascontiguousarray(x_RD)), self.y_R)


@dataclass(frozen=True, eq=False)
class TilePlan:
    """What all probes share about the tiles: N entries each.

    Attributes:
        columns: of the tiles.
        part_N: int8, index into `PARTS`, or `LEFT_OUT`.
        group_N: int64, tiles that may share ground are of one group.
        stored: modality -> labels, see `labels_of`.
    """

    columns: Columns
    part_N: NDArray[np.int8]
    group_N: NDArray[np.int64]
    stored: Mapping[str, NDArray[Any]]


def rows_of(task: ProbeTask, plan: TilePlan, seed: int, least: int) -> TaskRows:
    """The rows of a task that have a label.

    Args:
        seed: of the patches that are drawn where there are many.
        least: classes with fewer rows (label pixels, where rows are patches) in train are dropped.

    Raises:
        NoLabelsError: no tile has a label, a part has none, or all have the same class.
    """
    rows = _dense_rows(task, plan, seed) if task.dense else _tile_rows(task, plan)
    if not len(rows):
        raise NoLabelsError(f"{task.name}: no tile of these shards has a label: leave it out of --tasks")
    if task.kind in {"classes", "pixels"}:
        rows = _without_rare(task, rows, least)
    for number, name in enumerate(PARTS):
        if not rows.count(number):
            raise NoLabelsError(
                f"{task.name}: no tile in {name} has a label: say another --seed, --block-km or --gap-km"
            )
    return rows


def values_of(task: ProbeTask, plan: TilePlan) -> NDArray[np.float32]:
    """The targets of a task whose targets are numbers, float32 (N, T); NaN where a tile has none."""
    if task.name == "month":
        return month_of(plan.columns.date)
    if task.name == "latitude":
        return plan.columns.lat[:, None].astype(np.float32)
    assert task.modality is not None
    return np.asarray(plan.stored[task.modality][:, None], np.float32)


def _tile_rows(task: ProbeTask, plan: TilePlan) -> TaskRows:
    if task.kind == "classes":
        y_N: NDArray[Any] = plan.columns.biome.astype(np.int64)
        there_N, outputs = plan.columns.biome != UNKNOWN_BIOME, int(y_N.max(initial=0)) + 1
    else:
        y_N = values_of(task, plan)
        there_N, outputs = np.isfinite(y_N).all(1), y_N.shape[1]
    tiles = np.flatnonzero(there_N & (plan.part_N != LEFT_OUT))
    return _rows(Task(task.kind, outputs), plan, tiles, None, torch.from_numpy(y_N[tiles]))


def _dense_rows(task: ProbeTask, plan: TilePlan, seed: int) -> TaskRows:
    assert task.modality is not None
    ids_NnQ = plan.stored[task.modality]
    ids_NnQ = ids_NnQ.reshape(len(ids_NnQ), -1, ids_NnQ.shape[-1])
    there_Nn = (ids_NnQ != NO_LABEL).any(2) & (plan.part_N != LEFT_OUT)[:, None]
    tiles, patches = np.nonzero(there_Nn)
    part_R = plan.part_N[tiles]
    kept = []
    for number, name in enumerate(PARTS):
        found = np.flatnonzero(part_R == number)
        if name != "test" and len(found) > MOST_PATCHES:
            drawn = np.random.default_rng([seed, number]).permutation(len(found))[:MOST_PATCHES]
            found = found[np.sort(drawn)]
        kept.append(found)
    chosen = np.sort(np.concatenate(kept))
    tiles, patches = tiles[chosen], patches[chosen]
    y_RQ = torch.from_numpy(ids_NnQ[tiles, patches].astype(np.int64))
    outputs = int(y_RQ.max()) + 1 if len(y_RQ) else 0
    return _rows(Task("pixels", outputs), plan, tiles, patches, y_RQ)


def _rows(
    task: Task, plan: TilePlan, tiles: NDArray[np.int64], patches: NDArray[np.int64] | None, y_R: Tensor
) -> TaskRows:
    key_R, group_R = plan.columns.row[tiles], plan.group_N[tiles]
    return TaskRows(task, tiles, patches, plan.part_N[tiles], y_R, key_R, group_R)


def _without_rare(task: ProbeTask, rows: TaskRows, least: int) -> TaskRows:
    """The rows without classes that train has too few of, or that no other part has; the rest is numbered anew."""
    classes = rows.task.outputs
    counts_pC = np.stack([_counts(rows.y_R[torch.from_numpy(rows.part_R == part)], classes) for part in range(3)])
    kept_C = (counts_pC[0] >= least) & (counts_pC[1] > 0) & (counts_pC[2] > 0)
    names = [f"class {of} ({_told(counts_pC[:, of], least)})" for of in np.flatnonzero(counts_pC.any(0) & ~kept_C)]
    notes = [f"{task.name}: dropped {', '.join(names)}"] if names else []
    if kept_C.sum() < 2:
        what = "label pixels" if task.dense else "tiles"
        raise NoLabelsError(
            f"{task.name}: {counted(int(kept_C.sum()), 'class', 'classes')} with {least} {what} in train and some in "
            "val and test, and two are needed: say another --seed, a smaller --block-km or --min-class, or more --tiles"
        )
    number_C = torch.full((classes + 1,), NO_LABEL)
    number_C[torch.from_numpy(np.flatnonzero(kept_C))] = torch.arange(int(kept_C.sum()))
    # The last entry is that of -1.
    y_R = number_C[rows.y_R]
    rows = replace(rows, y_R=y_R, task=replace(rows.task, outputs=int(kept_C.sum())), notes=(*rows.notes, *notes))
    there_R = (y_R != NO_LABEL).view(len(y_R), -1).any(1)
    return rows.take(there_R.numpy())


def _told(count_p: NDArray[np.int64], least: int) -> str:
    if count_p[0] < least:
        return f"{count_p[0]} in train"
    return "none in val" if not count_p[1] else "none in test"


def _counts(y_R: Tensor, classes: int) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = torch.bincount(y_R[y_R != NO_LABEL].flatten(), minlength=classes).numpy()
    return counts
