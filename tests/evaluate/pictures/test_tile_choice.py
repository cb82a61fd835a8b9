"""Which tiles are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmae.data.sampling.shard_sets import ShardSet
from mmae.errors import InputError
from mmae.evaluate.pictures.tile_choice import (
    date_in_words,
    describe,
    first_tiles,
    named_tiles,
    place_in_words,
    random_tiles,
    worst_tiles,
)
from tests.support.tiny_sets import write_set


@pytest.fixture
def sets(tmp_path: Path) -> list[ShardSet]:
    places = {4: (1.0, 2.0), 20: (3.0, 4.0), 21: (5.0, 6.0)}
    return [
        ShardSet(write_set(tmp_path / "one", {"train": [1, 2], "val": [5, 3, 9, 11]})),
        ShardSet(write_set(tmp_path / "two", {"train": [4], "val": [20, 21]}, places=places)),
    ]


def rows(sets: list[ShardSet], places: object) -> list[int]:
    chosen = zip(places.set_B.tolist(), places.tile_B.tolist(), strict=True)  # type: ignore[attr-defined]
    return [int(sets[number].index.row[tile]) for number, tile in chosen]


def test_the_first_ones_are_in_stored_order(sets: list[ShardSet]) -> None:
    assert rows(sets, first_tiles(sets, "val", 5)) == [5, 3, 9, 11, 20]


def test_random_ones_depend_on_the_seed_only(sets: list[ShardSet]) -> None:
    drawn = [rows(sets, random_tiles(sets, "val", 3, seed)) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) > 1
    assert all(len(set(each)) == 3 for each in drawn)
    assert len(rows(sets, random_tiles(sets, "val", 99, 0))) == 6


def test_the_worst_come_first_and_lost_numbers_are_the_worst(sets: list[ShardSet]) -> None:
    losses = np.array([1.0, 5.0, np.nan, 2.0, 7.0, 0.0])
    assert rows(sets, worst_tiles(sets, "val", 3, lambda _: losses)) == [9, 20, 3]


def test_named_ones_are_found_in_any_split_and_set(sets: list[ShardSet], tmp_path: Path) -> None:
    assert rows(sets, named_tiles(sets, "tile-20, tile-2,tile-11")) == [2, 11, 20]
    (tmp_path / "keys.txt").write_text("tile-4\ntile-1\n")
    assert rows(sets, named_tiles(sets, str(tmp_path / "keys.txt"))) == [1, 4]
    for said in ("tile-1,tile-99", ","):
        with pytest.raises(InputError, match="no tile has the id"):
            named_tiles(sets, said)


def test_a_title_says_tile_place_and_date(sets: list[ShardSet]) -> None:
    assert describe(sets, named_tiles(sets, "tile-20"), 0) == "tile-20 · 3.00° N, 4.00° E · date unknown"
    assert place_in_words(-38.817, -72.5) == "38.82° S, 72.50° W"
    assert place_in_words(float("nan"), 1.0) == "place unknown"
    assert (date_in_words(20200714), date_in_words(0)) == ("2020-07-14", "date unknown")
