"""The leak check counts the samples within a kilometre of a pretraining tile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.evaluate.benchmark.geobench.geobench_task import open_geobench
from mmae.evaluate.benchmark.near_pretraining import PretrainingPlaces, near
from tests.support.geobench_suite import write_task


def kilometres(first: np.ndarray, second: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """The haversine formula, of each first with each second place."""
    lat, lon = np.radians(first[:, None].T), np.radians(second[None].T)
    return first_to(lat[0].T, lat[1].T, lon[0].T, lon[1].T)


def first_to(lat: np.ndarray, lon: np.ndarray, lat2: np.ndarray, lon2: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    half = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    return 2 * 6371 * np.arcsin(np.sqrt(half))  # type: ignore[no-any-return]


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
    # Samples are 2 km apart: 500 m from one of them is near that one only.
    places.places_N2 = samples[2:3] + np.array([0.0045, 0])
    assert (places.nearness(task, "test").known, places.nearness(task, "test").near) == (6, 1)
