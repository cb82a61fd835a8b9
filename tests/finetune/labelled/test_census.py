"""The census of labels: counts, shares, what it says, and the task that it leads to."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mmae.config.finetune_schema import TaskConfig
from mmae.data.sampling.shard_sets import ShardSet
from mmae.errors import InputError
from mmae.finetune.labelled.census import census_notes, census_table, count_labels, take_census, task_of
from mmae.finetune.labelled.label_sources import MapLabels, VectorLabels
from mmae.modalities import MODALITIES
from tests.support.tuning_case import labelled_set

WORLDCOVER = MapLabels(MODALITIES["semseg"], "segmentation")
ELEVATION = MapLabels(MODALITIES["depth"], "regression")
SEGMENT = TaskConfig(kind="segmentation", target="esa_worldcover")


def test_classes_are_counted_over_known_labels() -> None:
    found = count_labels(torch.tensor([[[0, 0], [2, -1]], [[-1, -1], [-1, -1]]]), tiles=9, outputs=3)
    assert found.count_K.tolist() == [2, 0, 1]
    assert found.shares.tolist() == [2 / 3, 0, 1 / 3]
    assert (found.tiles, found.read, found.labelled, found.known) == (9, 2, 1, 3)


def test_labels_of_a_multi_label_task_are_shares_of_tiles() -> None:
    found = count_labels(torch.tensor([[1.0, 0.0], [1.0, 1.0], [torch.nan, torch.nan]]), tiles=3, outputs=2)
    assert (found.labelled, found.known) == (2, 2)
    assert found.shares.tolist() == [1.0, 0.5]


def test_a_class_that_is_known_of_few_tiles_has_its_share_of_these() -> None:
    found = count_labels(torch.tensor([[1.0, torch.nan], [0.0, 1.0], [0.0, torch.nan]]), tiles=3, outputs=2)
    assert found.shares.tolist() == [pytest.approx(1 / 3), 1.0]


def test_several_labels_that_are_all_alike_are_nothing_to_learn() -> None:
    found = count_labels(torch.tensor([[1.0, 0.0], [1.0, torch.nan]]), tiles=2, outputs=2)
    source = VectorLabels("era5", "multilabel", 2)
    with pytest.raises(InputError, match="all training labels are alike"):
        task_of(TaskConfig(kind="multilabel", target="era5"), source, found, "S")


def test_numbers_have_mean_deviation_and_range() -> None:
    found = count_labels(torch.tensor([[1.0], [3.0], [torch.nan]]), tiles=3, outputs=1)
    assert (found.mean_K.tolist(), found.std_K.tolist()) == ([2.0], [1.0])
    assert (found.low_K.tolist(), found.high_K.tolist()) == ([1.0], [3.0])


def test_the_whole_tile_is_counted_whatever_is_cropped_later(tmp_path: Path) -> None:
    index = labelled_set(tmp_path)
    found = take_census(ShardSet(index), index.positions("train"), ELEVATION)
    assert (found.tiles, found.labelled) == (12, 12)
    from mmae.data.shards.reader import ShardReader

    reader = ShardReader(index, ["aster"])
    means = [reader.read(int(at)).arrays["aster"][0].astype(np.float64).mean() for at in index.positions("train")]
    np.testing.assert_allclose(found.mean_K, [np.mean(means)], rtol=1e-6)
    np.testing.assert_allclose(found.std_K, [np.std(means)], rtol=1e-5)


def test_a_task_takes_names_codes_and_statistics_from_the_training_labels() -> None:
    numbers = count_labels(torch.tensor([[1.0], [3.0]]), 2, 1)
    task = task_of(TaskConfig(kind="regression", target="elevation"), ELEVATION, numbers, "S")
    assert (task.targets, task.units, task.mean, task.std) == (("elevation",), ("m",), (2.0,), (1.0,))
    classes = task_of(SEGMENT, WORLDCOVER, count_labels(torch.tensor([[[0, 1]]]), 1, 11), "S")
    assert classes.class_codes == MODALITIES["semseg"].class_codes
    assert (classes.outputs, classes.ignore) == (11, -1)


def test_a_name_that_may_not_name_a_file_is_made_one() -> None:
    source = VectorLabels("x", "classification", 2, (0, 1))
    task = task_of(
        TaskConfig(kind="classification", target="../évil name"), source, count_labels(torch.tensor([0, 1]), 2, 2), "S"
    )
    assert task.name == "target_..__vil_name"


@pytest.mark.parametrize(
    ("config", "source", "labels", "said"),
    [
        (SEGMENT, WORLDCOVER, torch.tensor([[[-1, -1]]]), "no training tile has a known label"),
        (SEGMENT, WORLDCOVER, torch.tensor([[[3, 3]]]), "all training labels are of one class (cropland)"),
        (
            TaskConfig(kind="regression", target="e"),
            ELEVATION,
            torch.full((3, 1), torch.nan),
            "no training tile has a known",
        ),
        (TaskConfig(kind="regression", target="e"), ELEVATION, torch.ones(3, 1), "elevation are all alike"),
    ],
)
def test_labels_from_which_nothing_can_be_learned_are_refused(
    config: TaskConfig, source: MapLabels, labels: torch.Tensor, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        task_of(config, source, count_labels(labels, len(labels), len(source.names)), "S")
    assert said in str(refused.value)


def test_empty_classes_and_tiles_without_labels_are_said() -> None:
    train = count_labels(torch.tensor([[[0, 1]], [[-1, -1]]]), 2, 11)
    test = count_labels(torch.tensor([[[0, 2]]]), 5000, 11)
    task = task_of(SEGMENT, WORLDCOVER, train, "S")
    notes = list(census_notes(task, {"train": train, "val": train, "test": test}))
    assert "train: 1 tile of 2 without a known label: not scored" in notes
    assert any(note.startswith("no training label: grassland, cropland") for note in notes)
    assert "test holds classes that training never sees, so they count as errors: grassland" in notes
    assert "test: labels of 1 of 5000 tiles were read" in notes


def test_the_table_has_a_row_a_class_and_a_column_a_split() -> None:
    train = count_labels(torch.tensor([[[0, 1, 1, 1]]]), 1, 11)
    text = census_table(task_of(SEGMENT, WORLDCOVER, train, "S"), {"train": train, "val": train}).text()
    assert re.search(r"\| shrubland +\| +75.0 \| +75.0 \|", text)
    assert text.index("shrubland") < text.index("tree cover")
