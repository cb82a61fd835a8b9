"""Shapes, dtypes and counts, before a tile is read."""

from __future__ import annotations

import numpy as np
import pytest

from mmae.data.transforms.shapes import check_counts, check_shapes
from mmae.errors import InputError
from mmae.modalities import DATASET_BANDS, MODALITIES

SHAPES = {name: (bands, 8, 8) for name, bands in DATASET_BANDS.items()}
DTYPES = {name: np.dtype(np.uint8) for name in SHAPES}


def test_the_bands_of_modalities_are_among_those_of_their_datasets() -> None:
    assert {row.dataset for row in MODALITIES.values()} == DATASET_BANDS.keys()
    assert all(max(row.bands) < DATASET_BANDS[row.dataset] for row in MODALITIES.values())
    check_shapes("here", SHAPES, DTYPES, list(MODALITIES))


@pytest.mark.parametrize("dataset", list(DATASET_BANDS))
@pytest.mark.parametrize("change", [-1, 1])
def test_every_dataset_has_its_number_of_bands(dataset: str, change: int) -> None:
    bands = DATASET_BANDS[dataset] + change
    with pytest.raises(InputError, match=rf"^here: (a tile of )?{dataset} has "):
        check_shapes("here", SHAPES | {dataset: (bands, 8, 8)}, DTYPES, list(MODALITIES))


@pytest.mark.parametrize("shape", [(), (2,), (2, 8), (1, 2, 8, 8), (2, 0, 8)])
def test_a_tile_is_an_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="a tile of aster has shape"):
        check_shapes("here", SHAPES | {"aster": shape}, DTYPES, ["rgb", "depth"])
    check_shapes("here", SHAPES | {"aster": shape}, DTYPES, ["rgb"])


def test_class_codes_are_integers() -> None:
    with pytest.raises(InputError, match="esa_worldcover is float32"):
        check_shapes("here", SHAPES, DTYPES | {"esa_worldcover": np.dtype(np.float32)}, ["semseg"])


def test_statistics_have_a_number_a_band() -> None:
    whole = {"sentinel2_l1c": {"mean": [1.0] * 13, "std": [1.0] * 13}, "aster": {"mean": [1.0] * 2, "std": [1.0] * 2}}
    check_counts("here", SHAPES, ["rgb", "depth", "semseg"], whole)
    for entry, kind, count in (("sentinel2_l1c", "mean", 12), ("aster", "std", 3)):
        wrong = whole | {entry: whole[entry] | {kind: [1.0] * count}}
        with pytest.raises(InputError, match=rf"{entry} have {count} numbers \({kind}\)"):
            check_counts("here", SHAPES, ["rgb", "depth"], wrong)
    check_counts("here", SHAPES, ["depth"], whole | {"sentinel2_l1c": {"mean": [1.0], "std": []}})
