"""Labels of maps, vectors and files, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmae.config.finetune_schema import TaskKind
from mmae.finetune.labelled.label_sources import MapLabels, RowLabels, VectorLabels, class_codes, known
from mmae.modalities import MODALITIES
from mmae.types import Batch

WORLDCOVER, ELEVATION = MODALITIES["semseg"], MODALITIES["depth"]


def batch_of(dataset: str, pixels: Tensor, rows: list[int] | None = None) -> Batch:
    row_B = torch.tensor(rows if rows is not None else range(len(pixels)))
    return Batch({dataset: pixels}, torch.zeros(len(pixels)), row_B, row_B, torch.ones(len(pixels), dtype=torch.bool))


def whole(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    return torch.arange(height * width).view(1, height, width).expand(len(pixels), -1, -1)


def land_cover(kind: TaskKind, *tiles: list[int], least_share: float = 0.01) -> Tensor:
    pixels = torch.tensor(tiles, dtype=torch.uint8).view(len(tiles), 1, 1, -1)
    return MapLabels(WORLDCOVER, kind, least_share).labels(batch_of("esa_worldcover", pixels), whole(pixels))


def test_codes_of_a_map_become_class_ids_and_no_data_is_not_known() -> None:
    ids = land_cover("segmentation", [10, 100, 0, 255, 7])
    assert ids.tolist() == [[[0, 10, -1, -1, -1]]]
    assert known(ids).tolist() == [[[True, True, False, False, False]]]


def test_the_label_is_turned_with_the_image() -> None:
    pixels = torch.tensor([[[[10, 20], [30, 40]]]], dtype=torch.uint8)
    turned = torch.tensor([[[1, 3], [0, 2]]])
    ids = MapLabels(WORLDCOVER, "segmentation").labels(batch_of("esa_worldcover", pixels), turned)
    assert ids.tolist() == [[[1, 3], [0, 2]]]


def test_a_tile_has_its_most_frequent_known_class_and_the_lowest_of_equals() -> None:
    assert land_cover("classification", [0, 0, 0, 20, 20, 10], [30, 20, 20, 30, 0, 0], [0] * 6).tolist() == [1, 1, -1]


def test_a_class_is_present_from_a_share_of_the_known_pixels() -> None:
    labels = land_cover("multilabel", [10, 10, 10, 20, 0, 0], [0] * 6, least_share=0.25)
    assert labels[0, :2].tolist() == [1, 1]
    assert labels[0].sum() == 2
    assert not known(labels[1]).any()
    assert land_cover("multilabel", [10, 10, 10, 20, 0, 0], least_share=0.26)[0, :2].tolist() == [1, 0]


def test_numbers_of_a_map_and_their_mean_leave_out_what_is_no_data() -> None:
    pixels = torch.tensor([[[[1, 3], [127, 5]], [[9, 9], [9, 9]]]], dtype=torch.int8)
    height = MapLabels(MODALITIES["canopy_height"], "pixel_regression")
    of_pixels = height.labels(batch_of("canopy_height_eth", pixels), whole(pixels))
    torch.testing.assert_close(of_pixels, torch.tensor([[[[1.0, 3.0], [torch.nan, 5.0]]]]), equal_nan=True)
    of_tile = MapLabels(MODALITIES["canopy_height"], "regression").labels(
        batch_of("canopy_height_eth", pixels), whole(pixels)
    )
    assert of_tile.tolist() == [[3.0]]
    nothing = torch.full((1, 2, 2, 2), 127, dtype=torch.int8)
    assert (
        MapLabels(MODALITIES["canopy_height"], "regression")
        .labels(batch_of("canopy_height_eth", nothing), whole(nothing))
        .isnan()
        .all()
    )


def test_a_map_has_the_units_and_codes_of_its_modality() -> None:
    assert MapLabels(ELEVATION, "regression").units == ("m",)
    source = MapLabels(WORLDCOVER, "segmentation")
    assert source.codes == WORLDCOVER.class_codes
    assert len(source.names) == len(WORLDCOVER.class_codes)
    assert len(MapLabels(MODALITIES["dynamic_world"], "segmentation").names) == 9


@pytest.mark.parametrize(
    ("vector", "code"),
    [([0, 1, 0], 1), ([0, 0, 0], -1), ([1, 1, 0], -1), ([0, 2, 0], -1), ([7], 7), ([0], 0)],
)
def test_a_vector_names_a_class_only_if_it_is_one_hot_or_a_code(vector: list[int], code: int) -> None:
    assert class_codes(torch.tensor([vector])).tolist() == [code]


def test_codes_of_a_vector_become_ids_in_their_order_and_others_are_not_known() -> None:
    source = VectorLabels("biome", "classification", 14, (1, 5, 7))
    hot = torch.eye(14, dtype=torch.uint8)[[7, 1, 3]]
    assert source.labels(batch_of("biome", hot), torch.empty(0)).tolist() == [2, 0, -1]
    assert source.names == ("biome 1", "biome 5", "biome 7")


def test_numbers_that_are_not_finite_are_not_known() -> None:
    source = VectorLabels("era5", "regression", 2)
    labels = source.labels(batch_of("era5", torch.tensor([[1.0, torch.inf], [torch.nan, 2.0]])), torch.empty(0))
    assert known(labels).tolist() == [[True, False], [False, True]]


def test_labels_of_a_file_are_found_by_source_row() -> None:
    source = RowLabels(np.array([2, 5, 9]), np.array([1, 0, -1]), ("a", "b"), "classification")
    pixels = torch.zeros(4, 1, 1, 1)
    assert source.labels(batch_of("aster", pixels, [9, 2, 7, 5]), torch.empty(0)).tolist() == [-1, 1, -1, 0]
