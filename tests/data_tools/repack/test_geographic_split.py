from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.repack.geographic_split import draw_by_place, place_groups

KM = 1 / 111.2


def groups(*places: tuple[float, float]) -> list[int]:
    lat, lon = np.array(places, np.float64).T
    return list(place_groups(lat, lon))


@given(st.floats(-89, 89), st.floats(-180, 180), st.floats(0, 2 * np.pi))
def test_tiles_that_overlap_are_one_place(lat: float, lon: float, bearing: float) -> None:
    near = (lat + np.sin(bearing) * 1.9 * KM, lon + np.cos(bearing) * 1.9 * KM / np.cos(np.radians(lat)))
    far = (lat, lon + 12 * KM / np.cos(np.radians(lat)))
    first, second, third = groups((lat, lon), near, far)
    assert first == second
    assert first != third


def test_date_line_and_poles() -> None:
    first, second = groups((10.0, 179.999), (10.0, -179.999))
    assert first == second
    first, second = groups((89.999, 0.0), (89.999, 180.0))
    assert first == second


def test_chains_are_one_place() -> None:
    assert len(set(groups(*[(0.0, step * KM) for step in range(50)]))) == 1


def test_one_tile() -> None:
    assert groups((0.0, 0.0)) == [0]


@pytest.mark.long
@given(st.lists(st.integers(0, 40), min_size=60, max_size=200), st.floats(0.05, 0.5), st.integers(0, 99))
def test_whole_groups_near_the_fraction(group: list[int], fraction: float, seed: int) -> None:
    rows, of_row = np.arange(len(group)) * 2, np.array(group)
    drawn = draw_by_place(rows, of_row, fraction, seed)
    inside = np.isin(rows, drawn)
    assert not set(of_row[inside]) & set(of_row[~inside])
    assert len(drawn) > 0
    largest = int(np.bincount(of_row).max())
    assert abs(len(drawn) - fraction * len(rows)) <= largest


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    rows, group = np.arange(100), np.arange(100) // 4
    turned = draw_by_place(rows[::-1], group[::-1], 0.2, 7)
    assert set(draw_by_place(rows, group, 0.2, 7)) == set(turned)
