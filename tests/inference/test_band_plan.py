from __future__ import annotations

import pytest

from mmae.errors import InputError
from mmae.inference.band_plan import find_dataset, plan_bands
from mmae.modalities import MODALITIES, PUBLISHED

ALL = tuple(MODALITIES)


def test_modalities_all_of_whose_bands_are_given() -> None:
    plan = plan_bands(PUBLISHED, {"sentinel2": ["B8", "b02", "B03", "B4", "B08a"], "aster": ["elevation"]})
    assert plan.names == ("rgb", "depth", "ebands")
    assert plan.places == {"sentinel2": (8, 1, 2, 3, 7), "aster": (0,)}
    assert plan.unused == {}
    assert plan_bands(("rgb", "ired"), {"sentinel2": ["B2", "B3", "B4"]}).names == ("rgb",)


def test_a_band_that_only_incomplete_modalities_take_is_unused() -> None:
    plan = plan_bands(PUBLISHED, {"sentinel2": ["B2", "B3", "B4", "B8", "B11"]})
    assert plan.names == ("rgb",)
    assert plan.unused == {"sentinel2": ("B8", "B11")}


@pytest.mark.parametrize("spelling", ["asc {}", "{} asc", "ascending {}", "ASC_{}", "{}-Ascending"])
def test_radar_bands(spelling: str) -> None:
    names = [spelling.format(pol) for pol in ("VH", "VV", "HH", "HV")]
    plan = plan_bands(ALL, {"sentinel1": [*names, "desc VV", "desc VH", "desc HH", "desc HV"]})
    assert plan.names == ("sentinel1",)
    assert plan.places == {"sentinel1": (1, 0, 2, 3, 4, 5, 6, 7)}


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        ({"sentinel2": ["B2", "B3", "B4", "B10"]}, r"no band 'B10' \(it has sentinel2: B4, B3, B2, B5, .*leave the"),
        ({"sentinel2": ["B2", "B3", "B1"]}, "no band 'B1'"),
        ({"sentinel2": ["B2", "red"]}, "no band 'red'"),
        ({"sentinel2": ["B2", "B8"]}, "complete no modality of the model; rgb also needs B4, B3 .*; ebands also needs"),
        ({"sentinel2": ["B2", "B02", "B3", "B4"]}, "band B2 is named twice"),
        ({"sentinel2": []}, "give a list of names"),
        ({"sentinel2": "B2"}, "give a list of names"),
        ({"sentinel_2": ["B2"]}, "dataset 'sentinel_2'; did you mean 'sentinel2'"),
        ({"aster": ["slope"]}, "this model has no band 'slope'"),
        ({}, "complete no modality"),
    ],
)
def test_bands_that_cannot_be(bands: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_bands(PUBLISHED, bands)


def test_the_dataset_of_one_array() -> None:
    assert find_dataset(ALL, ["B04", "b3", "B2"]) == "sentinel2"
    assert find_dataset(ALL, ["slope"]) == "aster"
    assert find_dataset(PUBLISHED, ["class"]) == "esa_worldcover"
    for inputs, bands, message in (
        (ALL, ["class"], "esa_worldcover and dynamic_world both have them: give a mapping"),
        (PUBLISHED, ["B2", "elevation"], "are of several datasets: give a mapping"),
        (PUBLISHED, ["B2", "nir"], "this model has no band 'nir'"),
        (PUBLISHED, [], "give a list of names in the order"),
        (PUBLISHED, "B2", "give a list of names in the order"),
    ):
        with pytest.raises(InputError, match=message):
            find_dataset(inputs, bands)
