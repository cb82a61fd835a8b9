"""The leak check counts the samples within a kilometre of a pretraining tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmae.evaluate.benchmark.geobench.geobench_task import open_geobench
from mmae.evaluate.benchmark.near_pretraining import PretrainingPlaces, near
from tests.support.geobench_suite import write_task


def kilometres(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The haversine formula, of each first with each second place."""
    lat, lon = np.radians(first[:, None, 0]), np.radians(first[:, None, 1])
    lat2, lon2 = np.radians(second[None, :, 0]), np.radians(second[None, :, 1])
    half = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    found: NDArray[np.float64] = 2 * 6371 * np.arcsin(np.sqrt(half))
    return found


@pytest.mark.parametrize(("lat", "lon"), [(0, 0), (52, 13), (-60, 179.99), (89.8, 0)])
def test_near_places_are_those_of_a_search_through_all(lat: float, lon: float) -> None:
    draws = np.random.default_rng(1)
    spread = np.array([0.1, 0.1 / max(np.cos(np.radians(lat)), 0.01)])
    asked = np.array([lat, lon]) + draws.uniform(-1, 1, (200, 2)) * spread
    others = np.array([lat, lon]) + draws.uniform(-1, 1, (60, 2)) * spread
    asked[:, 1] = (asked[:, 1] + 180) % 360 - 180
    others[:, 1] = (others[:, 1] + 180) % 360 - 180
    expected = (kilometres(asked, others) <= 1).any(1)
    assert np.array_equal(near(asked, others, 1.0), expected)
    assert 0 < expected.sum() < 200


def test_nothing_is_near_nothing() -> None:
    none = np.empty((0, 2))
    assert near(none, np.zeros((3, 2)), 1.0).shape == (0,)
    assert not near(np.zeros((3, 2)), none, 1.0).any()


@pytest.mark.process
def test_samples_on_pretraining_ground_are_counted(tmp_path: Path, synthetic_shards: Path) -> None:
    places = PretrainingPlaces([str(synthetic_shards)])
    assert len(places.places_N2) > 0
    write_task(tmp_path, "m-eurosat")
    task = open_geobench(tmp_path, "m-eurosat")
    assert places.nearness(task, "test").near == 0
    assert places.nearness(task, "test").known == 6
    samples = task.places(task.splits["test"])
    assert samples is not None
    # Samples are 2 km apart, of 160 m: 1.1 km from the middle of one is within 1 km of its circle.
    assert task.half_diagonal_km == pytest.approx(0.08 * 2**0.5)
    places.places_N2 = samples[2:3] + np.array([1.1 / 111.2, 0])
    assert (places.nearness(task, "test").known, places.nearness(task, "test").near) == (6, 1)
    places.places_N2 = samples[2:3] + np.array([1.13 / 111.2, 0])
    assert places.nearness(task, "test").near == 0
