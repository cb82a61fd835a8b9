"""Cells around the Earth: neighbours are found, at the poles and the date line too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmae.data.sampling.earth_grid import EARTH_KM, EarthGrid, unit_vectors


def degrees(points: Any) -> tuple[Any, Any]:
    """Latitude and longitude of directions (N, 3)."""
    x, y, z = (points / np.linalg.norm(points, axis=1, keepdims=True)).T
    return np.degrees(np.arcsin(z)), np.degrees(np.arctan2(y, x))


@pytest.fixture
def places() -> Any:
    """Directions all around, many of them close to a pole or to the date line."""
    draw = np.random.default_rng(0)
    anywhere = draw.normal(size=(2000, 3))
    polar = np.array([0.0, 0.0, 1.0]) + draw.normal(scale=1e-3, size=(500, 3))
    date_line = np.array([-1.0, 0.0, 0.2]) + draw.normal(scale=1e-3, size=(500, 3))
    points = np.concatenate([anywhere, polar, -polar, date_line])
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_points_of_the_unit_sphere() -> None:
    found = unit_vectors(np.array([0.0, 0.0, 90.0, 0.0]), np.array([0.0, 90.0, 123.0, 180.0]))
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]], atol=1e-15)


@pytest.mark.parametrize("cell_km", [0.5, 10.0, 700.0, 20_000.0])
def test_places_nearer_than_a_cell_lie_in_touching_cells(places: Any, cell_km: float) -> None:
    grid = EarthGrid(cell_km)
    step = np.random.default_rng(1).normal(size=places.shape)
    step *= 0.99 * min(cell_km / EARTH_KM, 1.0) / np.linalg.norm(step, axis=1, keepdims=True)
    near = unit_vectors(*degrees(places + step))
    # Projected back onto the sphere, a few are further away than the step was long.
    near_enough = np.linalg.norm(near - places, axis=1) * EARTH_KM < cell_km
    assert near_enough.mean() > 0.4
    between = (grid.keys(*degrees(near)) - grid.keys(*degrees(places)))[near_enough]
    assert set(between.tolist()) <= set(grid.steps)


def test_places_that_are_far_apart_do_not_touch(places: Any) -> None:
    grid = EarthGrid(10.0)
    far = np.roll(places, 1, axis=0)
    apart = np.linalg.norm(far - places, axis=1) * EARTH_KM > 2 * np.sqrt(3) * 10
    between = (grid.keys(*degrees(far)) - grid.keys(*degrees(places)))[apart]
    assert not set(between.tolist()) & set(grid.steps)


def test_a_cell_touches_27_itself_included() -> None:
    grid = EarthGrid(50.0)
    assert len(set(grid.steps)) == 27
    assert 0 in grid.steps
    assert {column + z for column in grid.columns for z in (-1, 0, 1)} == set(grid.steps)


def test_keys_of_the_smallest_cells_fit_64_bits(places: Any) -> None:
    assert EarthGrid(0.01).keys(*degrees(places)).min() > 0
