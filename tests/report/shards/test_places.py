"""Distances between splits."""

from __future__ import annotations

import numpy as np
import pytest

from mmae.report.shards.places import nearest_km


def test_distances_are_those_on_the_sphere() -> None:
    asked = np.array([[0.0, 0.0], [48.8566, 2.3522], [0.0, 179.9]])
    others = np.array([[0.0, 1.0], [51.5074, -0.1278], [0.0, -179.9]])
    # A degree of the equator; Paris to London; across the date line.
    assert nearest_km(asked, others) == pytest.approx([111.19, 343.6, 22.24], rel=1e-3)


def test_near_places_are_told_apart() -> None:
    near = nearest_km(np.array([[46.8, 9.8]]), np.array([[46.8001, 9.8], [47.0, 9.8]]))
    assert near == pytest.approx([0.0111], rel=0.01)
    assert nearest_km(np.array([[46.8, 9.8]]), np.array([[46.8, 9.8]])) == pytest.approx([0], abs=2e-4)
