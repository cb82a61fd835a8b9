"""Band statistics as numbers: which bands are known, and which entries are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmae.data.transforms.stats_entry import band_numbers, no_data
from mmae.errors import InputError


def known(entry: str, mean: list[Any], std: list[Any]) -> list[bool]:
    numbers = band_numbers({entry: {"mean": mean, "std": std}}, entry)
    return [False] * len(mean) if numbers is None else numbers.known.tolist()


def test_an_entry_s_numbers() -> None:
    numbers = band_numbers({"aster": {"mean": [100, 1.5], "std": [50.0, 2]}}, "aster")
    assert numbers is not None
    assert (numbers.mean_C.tolist(), numbers.std_C.tolist()) == ([100.0, 1.5], [50.0, 2.0])


def test_a_missing_entry_has_no_numbers() -> None:
    assert band_numbers({}, "aster") is None
    assert band_numbers({"aster": None}, "aster") is None
    assert band_numbers({"aster": {"mean": [None, float("nan")], "std": [None, float("nan")]}}, "aster") is None


def test_a_number_that_is_missing_or_not_finite_leaves_its_band_unknown() -> None:
    assert known("sentinel1", [-12.0, None, 3.0, float("inf")], [4.0, 4.0, None, 1.0]) == [True, False, False, False]


@pytest.mark.parametrize(
    ("entry", "mean", "seen"),
    [
        # A band that never changes has data, unless its only value means that there is none.
        ("aster", 0.0, True),
        ("sentinel2_l2a", 1000.0, True),
        ("sentinel2_l2a", 0.0, False),
        ("canopy_height_eth", 127.0, False),
        ("canopy_height_eth", 0.0, True),
        # Radar is 0 dB nowhere.
        ("sentinel1", 0.0, False),
        ("sentinel1", -12.0, True),
    ],
)
def test_a_deviation_of_zero(entry: str, mean: float, seen: bool) -> None:
    assert known(entry, [mean, 5.0], [0.0, 1.0]) == [seen, True]


def test_unknown_means_and_deviations_are_both_nan() -> None:
    numbers = band_numbers({"sentinel2_l2a": {"mean": [0.0, 7.0], "std": [0.0, 1.0]}}, "sentinel2_l2a")
    assert numbers is not None
    assert np.isnan([numbers.mean_C[0], numbers.std_C[0]]).all()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"mean": [1.0], "std": [1.0, 2.0]}, "aster has 1 means and 2 deviations"),
        ({"mean": [1.0], "std": [-1.0]}, "aster.std holds a negative number"),
        ({"mean": [1.0]}, "aster.std is not a list of numbers"),
        ({"mean": 1.0, "std": [1.0]}, "aster.mean is not a list of numbers"),
        ({"mean": ["1"], "std": [1.0]}, "aster.mean is not a list of numbers"),
        ({"mean": [True], "std": [1.0]}, "aster.mean is not a list of numbers"),
        ([1.0], "aster.mean is not a list of numbers"),
    ],
)
def test_an_invalid_entry_is_one_clear_line(table: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        band_numbers({"aster": table}, "aster")
    assert "mmae stats" in str(refused.value)


def test_no_data_values() -> None:
    assert no_data("sentinel2_l1c") == no_data("sentinel2_l2a") == (0,)
    assert no_data("canopy_height_eth") == (127,)
    assert no_data("aster") == no_data("nothing of ours") == ()
