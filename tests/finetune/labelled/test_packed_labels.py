"""Labels and masks that were packed with shards, as targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.repack.command import repack
from mmae.config.finetune_schema import SourceConfig, TaskConfig, TaskKind
from mmae.data.sampling.shard_sets import ShardSet
from mmae.errors import InputError
from mmae.finetune.labelled.census import take_census
from mmae.finetune.labelled.label_sources import LabelSource, class_codes
from mmae.finetune.labelled.target_choice import choose_target
from mmae.finetune.labelled.tile_reading import read_tiles
from tests.support.mmearth import MMEarth

DRAW = np.random.default_rng(5)
CROPS = DRAW.choice([0, 3, 7, 255], (12, 8, 8)).astype(np.uint8)
DEPTH = DRAW.normal(20, 5, (12, 2, 8, 8))
DEPTH[3] = np.nan


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """A set with labels in its index, and masks of its own."""
    folder, made = tmp_path_factory.mktemp("packed"), MMEarth()
    made.arrays |= {
        "crops": CROPS,
        "snow": DEPTH,
        "coarse": np.zeros((12, 1, 4, 4), np.uint8),
        "far": np.full((12, 8, 8), 2**40),
    }
    lines = [f"{tile},{'ice' if row % 3 else 'sand'},{row % 4},{row / 8}" for row, tile in enumerate(made.tile_info)]
    (folder / "labels.csv").write_text("\n".join(["tile_id,ground,grade,height", *lines]))
    source = made.write(folder / "source")
    return ShardSet(repack(source, folder / "out", labels=folder / "labels.csv", progress=False), None)


def target(each: ShardSet, name: str, kind: TaskKind, **masks: Any) -> LabelSource:
    return choose_target(TaskConfig(kind=kind, target=name), each, SourceConfig(**masks))[0]


def labels_by_row(each: ShardSet, source: LabelSource, size: int = 8) -> Mapping[int, torch.Tensor]:
    """The labels of whole tiles, by source row."""
    index_hw = torch.arange(size * size).view(size, size)
    found: dict[int, torch.Tensor] = {}
    for batch in read_tiles(each, source.datasets or ("aster",), np.arange(len(each.index))):
        labels = source.labels(batch, index_hw.expand(len(batch.row_B), size, size))
        found |= dict(zip(batch.row_B.tolist(), labels, strict=True))
    return found


def test_labels_of_the_index_are_those_of_each_tile(shards: ShardSet) -> None:
    named = labels_by_row(shards, target(shards, "ground", "classification"))
    assert {row: int(label) for row, label in named.items()} == {row: int(row % 3 == 0) for row in range(12)}
    numbered = target(shards, "grade", "classification")
    assert numbered.names == ("0", "1", "2", "3")
    assert {row: int(label) for row, label in labels_by_row(shards, numbered).items()} == {r: r % 4 for r in range(12)}
    values = labels_by_row(shards, target(shards, "height", "regression"))
    assert {row: label.tolist() for row, label in values.items()} == {row: [row / 8] for row in range(12)}


def test_a_mask_has_the_classes_that_it_holds_without_what_is_ignored(shards: ShardSet) -> None:
    source = target(shards, "crops", "segmentation", ignore=(255,))
    assert (source.names, source.codes) == (("class 0", "class 3", "class 7"), (0, 3, 7))
    ids = np.select([CROPS == 0, CROPS == 3, CROPS == 7], [0, 1, 2], -1)
    for row, labels in labels_by_row(shards, source).items():
        np.testing.assert_array_equal(labels.numpy(), ids[row])
    census = take_census(shards, shards.index.of_split("val"), source)
    np.testing.assert_array_equal(census.count_K, np.bincount(ids[6:][ids[6:] >= 0].ravel()))


def test_values_of_maps_are_read_a_band_each(shards: ShardSet) -> None:
    source = target(shards, "snow", "pixel_regression")
    assert source.names == ("snow 0", "snow 1")
    for row, labels in labels_by_row(shards, source).items():
        np.testing.assert_array_equal(labels.numpy(), DEPTH[row].astype(np.float32))


@pytest.mark.parametrize(
    ("name", "kind", "masks", "said"),
    [
        ("ground", "regression", {}, "holds names of classes, such as 'sand'"),
        ("ground", "segmentation", {}, "is a label a tile"),
        ("grade", "multilabel", {}, "holds 2, and task.kind=multilabel needs 0 or 1"),
        ("height", "classification", {}, "holds 0.125, which is no number of a class"),
        ("month", "multilabel", {}, "and task.kind=multilabel needs 0 or 1"),
        ("crops", "classification", {}, "needs a label a tile: use segmentation"),
        (
            "crops",
            "segmentation",
            {"classes": ("0:a", "3:b", "7:c")},
            "holds 255, which is none of the classes 0, 3, 7",
        ),
        ("crops", "segmentation", {"ignore": (0, 3, 7)}, "holds 1 class: 2 to 1000"),
        ("coarse", "segmentation", {}, "holds maps of 4x4 pixels, and sentinel2 has 8x8"),
        ("snow", "segmentation", {}, "holds float64 numbers"),
        ("far", "segmentation", {}, "holds int64 numbers"),
        ("month", "segmentation", {}, "needs one a pixel"),
        ("esa_worldcover", "segmentation", {"ignore": (1,)}, "source.ignore is for masks of your own"),
    ],
)
def test_what_does_not_fit_is_refused(
    name: str, kind: TaskKind, masks: dict[str, Any], said: str, shards: ShardSet
) -> None:
    with pytest.raises(InputError, match=said):
        target(shards, name, kind, **masks)


def test_a_number_that_is_no_whole_one_is_no_class() -> None:
    vector_B1 = torch.tensor([[1.5], [2.0], [torch.nan], [-1.0], [torch.inf]])
    assert class_codes(vector_B1).tolist() == [-1, 2, -1, -1, -1]
