"""Ground that tiles share, beside a comparison of all pairs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.data.sampling.shared_ground import (
    APART,
    OVERLAPPING,
    SAME_ID,
    SAME_PLACE,
    Ground,
    footprint_km,
    joined,
    shared_ground,
)
from mmae.data.shards.index_json import DatasetInfo

KM = 1 / 111.195
Place = tuple[float, float]


def ground(*places: Place, side: float = 0.64, name: str = "t") -> Ground:
    lat, lon = np.array(places, np.float64).reshape(-1, 2).T
    ids = np.array([f"{name}{number}".encode() for number in range(len(places))], np.bytes_)
    return Ground(ids, lat, lon, np.full(len(places), side))


def kinds(asked: Ground, others: Ground) -> list[int]:
    kind, other = shared_ground(asked, others)
    assert ((other >= 0) == (kind != APART)).all()
    return [int(each) for each in kind]


def test_none_on_either_side() -> None:
    none, one = ground(), ground((1.0, 2.0))
    assert kinds(none, one) == kinds(none, none) == []
    assert kinds(one, none) == [APART]


def test_an_id_counts_wherever_its_tile_lies() -> None:
    asked, others = ground((1.0, 2.0), (np.nan, np.nan)), ground((50.0, 60.0), (70.0, 80.0))
    assert kinds(asked, others) == [SAME_ID, SAME_ID]
    assert shared_ground(asked, others)[1].tolist() == [0, 1]


def test_ids_of_another_width_are_compared_whole() -> None:
    long = Ground(np.array([b"t0_and_more"]), np.array([1.0]), np.array([2.0]), np.array([0.64]))
    assert kinds(long, ground((50.0, 60.0))) == kinds(ground((50.0, 60.0)), long) == [APART]


def test_the_same_place_within_a_metre() -> None:
    others = ground((10.0, 180.0), (-33.0, 18.5), name="o")
    assert kinds(ground((10.0, -180.0), (-33.000001, 18.500001), (-33.0, 18.6)), others) == [
        SAME_PLACE,
        SAME_PLACE,
        APART,
    ]


def test_unknown_places_share_nothing() -> None:
    unknown = ground((np.nan, np.nan), (1.0, np.nan))
    assert kinds(unknown, ground((1.0, 2.0), name="o")) == [APART, APART]
    assert kinds(ground((1.0, 2.0)), ground((np.nan, np.nan), name="o")) == [APART]


def test_tiles_side_by_side_do_not_overlap() -> None:
    lat = 47.0
    north, east = (lat + 0.64 * KM, 8.0), (lat, 8.0 + 0.64 * KM / np.cos(np.radians(lat)))
    assert kinds(ground((lat, 8.0)), ground(north, east, name="o")) == [APART]
    corner = (lat + 0.6 * KM, 8.0 + 0.6 * KM / np.cos(np.radians(lat)))
    assert kinds(ground((lat, 8.0)), ground(corner, name="o")) == [OVERLAPPING]


def test_tiles_of_two_sizes_overlap_by_half_of_each() -> None:
    small, large = ground((0.0, 0.0)), ground((0.0, 0.9 * KM), side=1.28, name="o")
    assert kinds(small, large) == kinds(large, small) == [OVERLAPPING]
    assert kinds(small, ground((0.0, 0.97 * KM), side=1.28, name="o")) == [APART]
    assert kinds(small, ground((0.0, 0.9 * KM), name="o")) == [APART]


def test_the_largest_tile_of_a_place_stands_for_it() -> None:
    others = joined([ground((0.0, 0.9 * KM), name="a"), ground((0.0, 0.9 * KM), side=1.28, name="b")])
    kind, other = shared_ground(ground((0.0, 0.0)), others)
    assert (kind.tolist(), other.tolist()) == ([OVERLAPPING], [1])


def test_without_a_footprint_only_ids_and_places_tell() -> None:
    others = ground((0.0, 0.0), (5.0, 5.0), side=0.0, name="o")
    assert kinds(ground((0.0, 0.0), (5.0, 5.0001), side=0.0), others) == [SAME_PLACE, APART]


def test_the_date_line_and_the_poles() -> None:
    assert kinds(ground((10.0, 179.999)), ground((10.0, -179.999), name="o")) == [OVERLAPPING]
    assert kinds(ground((89.999, 0.0)), ground((89.999, 180.0), name="o")) == [OVERLAPPING]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 47.0, -62.0]), st.floats(0.3, 8.0))
def test_all_pairs_give_the_same(seed: int, lat: float, spread: float) -> None:
    draw = np.random.default_rng(seed)
    shape = np.array([1.0, 1.0 / np.cos(np.radians(lat))])
    centre = np.array([lat, 179.99])
    points = [centre + draw.uniform(-spread, spread, (count, 2)) * KM * shape for count in (30, 40)]
    asked, others = ground(*map(tuple, points[0])), ground(*map(tuple, points[1]), name="o")
    apart = np.abs(points[0][:, None] - points[1][None]) / KM / shape
    overlap, touching = (apart < 0.63 - 0.01).all(2), (apart < 0.63 + 0.01).all(2)
    found = np.array(kinds(asked, others)) == OVERLAPPING
    assert (found | ~overlap.any(1)).all()
    assert (~found | touching.any(1)).all()


def test_the_side_of_a_tile_is_that_of_its_images() -> None:
    image, flat = DatasetInfo(np.dtype("<u2"), (13, 64, 64)), DatasetInfo(np.dtype("<f4"), (12,))
    assert footprint_km({"era5": flat, "sentinel2": image}) == 0.64
    assert footprint_km({"era5": flat}) == 0.0
