from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.data.remote.open_shards import open_shards
from mmae.data.shards.index import Index
from mmae.evaluate.probe.probe_tasks import PROBE_TASKS
from mmae.evaluate.probe.task_rows import NoLabelsError, TilePlan, rows_of
from tests.support.probe_case import biome, write_probe_set


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return open_shards(str(write_probe_set(tmp_path / "shards")), None, 1.0)[0]


def plan_of(index: Index, **stored: NDArray[Any]) -> TilePlan:
    part_N = (np.arange(len(index)) % 4 - 1).astype(np.int8)
    return TilePlan(index, part_N, np.arange(len(index)), stored)


def test_tiles_in_the_gap_and_without_a_label_are_no_rows(index: Index) -> None:
    plan = plan_of(index)
    rows = rows_of(PROBE_TASKS["biome"], plan, seed=0, least=1)
    assert len(rows) == 72
    assert [rows.count(part) for part in range(3)] == [24, 24, 24]
    assert rows.y_R.tolist() == [biome(row) for row in index.row[rows.tile_R].tolist()]


def test_a_class_that_is_rare_in_train_is_dropped_and_said(index: Index) -> None:
    plan = plan_of(index)
    train = np.flatnonzero((plan.part_N == 0) & (index.biome == 1))
    part_N = plan.part_N.copy()
    part_N[train[2:]] = -1
    rows = rows_of(PROBE_TASKS["biome"], replace(plan, part_N=part_N), seed=0, least=3)
    assert rows.notes == ("biome: dropped class 1 (2 in train)",)
    assert rows.task.outputs == 2
    assert set(rows.y_R.tolist()) == {0, 1}
    assert set(index.biome[rows.tile_R].tolist()) == {0, 2}
    with pytest.raises(NoLabelsError, match="biome: 0 classes with 33 tiles in train"):
        rows_of(PROBE_TASKS["biome"], plan, seed=0, least=33)


def test_patches_are_rows_and_dropped_classes_are_pixels_without_a_label(index: Index) -> None:
    ids = np.tile(np.array([[0, 0], [1, -1]], np.int16), (96, 2, 1)).reshape(96, 2, 2, 2)
    ids[0, 0, 0, 0] = 7
    rows = rows_of(PROBE_TASKS["land_cover"], plan_of(index, semseg=ids), seed=0, least=5)
    assert rows.task.outputs == 2
    assert len(rows) == 72 * 4
    assert rows.patch_R is not None
    features = rows.features(np.arange(96 * 4).reshape(96, 2, 2, 1).astype(np.float32))
    np.testing.assert_array_equal(features.x_ND[:, 0].numpy(), rows.tile_R * 4 + rows.patch_R)
    assert int(rows.y_R.max()) == 1


def test_labels_that_are_nowhere_are_refused(index: Index) -> None:
    nothing = np.full(96, np.nan, np.float32)
    with pytest.raises(NoLabelsError, match="canopy_height: no tile of these shards has a label"):
        rows_of(PROBE_TASKS["canopy_height"], plan_of(index, canopy_height=nothing), seed=0, least=1)
    one = plan_of(index)
    with pytest.raises(NoLabelsError, match="month: no tile in test has a label"):
        rows_of(PROBE_TASKS["month"], replace(one, part_N=np.minimum(one.part_N, 1)), seed=0, least=1)
