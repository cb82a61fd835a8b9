"""What an epoch takes of each set."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmae.data.sampling.mixture import Mixture, all_places
from mmae.data.sampling.order import windowed_order
from mmae.errors import InputError


def epoch_of(mixture: Mixture, epoch: int) -> list[tuple[int, int, int]]:
    """(set, repeat, tile) of every slot."""
    places = mixture.locate(epoch, np.arange(mixture.num_slots))
    return list(zip(places.set_B.tolist(), places.repeat_B.tolist(), places.tile_B.tolist(), strict=True))


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_one_set_of_weight_one_is_its_tiles(size: int) -> None:
    mixture = Mixture((size,), (1.0,), seed=3)
    assert mixture.num_slots == size
    assert epoch_of(mixture, 7) == [(0, 0, tile) for tile in range(size)]


def test_no_set_and_sets_without_tiles_have_no_slot() -> None:
    assert Mixture((), (), 0).num_slots == 0
    assert Mixture((0, 0), (1.0, 2.5), 0).num_slots == 0
    assert len(all_places([])) == 0


SIZES_AND_WEIGHTS = st.lists(
    st.tuples(st.integers(0, 40), st.floats(0.1, 3.5)).filter(lambda pair: not pair[0] or pair[0] * pair[1] > 1),
    min_size=1,
    max_size=4,
)


@pytest.mark.long
@settings(deadline=None, max_examples=80)
@given(SIZES_AND_WEIGHTS, st.integers(0, 50), st.integers(0, 4))
def test_an_epoch_takes_each_tile_as_often_as_its_weight_says(
    sets: list[tuple[int, float]], seed: int, epoch: int
) -> None:
    mixture = Mixture(tuple(size for size, _ in sets), tuple(weight for _, weight in sets), seed)
    taken = epoch_of(mixture, epoch)
    assert len(taken) == mixture.num_slots == len(set(taken))
    for number, (size, weight) in enumerate(sets):
        times = Counter(tile for each, _, tile in taken if each == number)
        whole = int(weight)
        assert sum(times.values()) == whole * size + round((weight - whole) * size)
        assert set(times) <= set(range(size))
        assert {times[tile] for tile in range(size)} <= {whole, whole + 1}
        # A tile's passes are numbered: no two of an epoch share their draws.
        for repeat in range(whole):
            assert sorted(
                tile for each, times_before, tile in taken if (each, times_before) == (number, repeat)
            ) == list(range(size))


def test_an_incomplete_pass_is_another_choice_in_every_epoch_and_set() -> None:
    mixture = Mixture((100, 100), (0.5, 0.5), seed=1)
    chosen = [frozenset(tile for each, _, tile in epoch_of(mixture, epoch) if each == number)
              for epoch in range(4) for number in range(2)]  # fmt: skip
    assert all(len(each) == 50 for each in chosen)
    assert len(set(chosen)) == 8
    assert epoch_of(mixture, 2) == epoch_of(Mixture((100, 100), (0.5, 0.5), seed=1), 2)
    assert epoch_of(mixture, 2) != epoch_of(Mixture((100, 100), (0.5, 0.5), seed=2), 2)


def test_over_many_epochs_no_tile_is_preferred() -> None:
    mixture = Mixture((10,), (0.3,), seed=0)
    times = Counter(tile for epoch in range(1000) for _, _, tile in epoch_of(mixture, epoch))
    # 300 expected, deviation 14.5.
    assert all(240 < times[tile] < 360 for tile in range(10))


def test_choices_never_change() -> None:
    # A run begun years ago goes on with these: a change needs another ORDER_VERSION.
    mixture = Mixture((6, 5), (0.5, 1.4), seed=7)
    assert epoch_of(mixture, 3) == [
        (0, 0, 0), (0, 0, 1), (0, 0, 4), *((1, 0, tile) for tile in range(5)), (1, 1, 0), (1, 1, 4)
    ]  # fmt: skip


def test_windows_never_change() -> None:
    window_L = Mixture((8,), (1.5,), seed=7).windows([np.arange(8, dtype=np.int32) // 2], 2, epoch=3)
    assert window_L.tolist() == [2, 2, 0, 0, 3, 3, 0, 0, 1, 1, 3, 2]
    assert windowed_order(window_L, 7, 3).tolist() == [2, 3, 6, 7, 8, 9, 0, 11, 1, 4, 5, 10]


def test_a_weight_that_takes_no_tile_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"data\.weights: 0\.01 of the 20 tiles of shard set 1 is not one tile: .* 0\.05"
    ):
        Mixture((5, 20), (1.0, 0.01), 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 12), st.floats(0.3, 2.4), st.integers(0, 9))
def test_windows_hold_so_many_shards_and_every_slot_once(
    tiles: int, shard_tiles: int, window: int, weight: float, epoch: int
) -> None:
    sizes = (tiles + 2, tiles + 4)
    mixture = Mixture(sizes, (weight, 1.0), seed=4)
    shards = [np.arange(size, dtype=np.int32) // shard_tiles for size in sizes]
    window_L = mixture.windows(shards, window, epoch)
    order = windowed_order(window_L, 4, epoch)
    assert sorted(order.tolist()) == list(range(mixture.num_slots))
    # Windows are read one after another.
    assert (np.diff(window_L[order]) >= 0).all()
    per_window: dict[int, set[tuple[int, int, int]]] = {}
    for number, (each, repeat, tile) in zip(window_L.tolist(), epoch_of(mixture, epoch), strict=True):
        per_window.setdefault(number, set()).add((each, repeat, int(shards[each][tile])))
    assert all(len(shards_of) <= window for shards_of in per_window.values())
    # A shard is read in one window only.
    assert sum(map(len, per_window.values())) == len(set().union(*per_window.values()))


def test_shards_meet_others_in_every_epoch() -> None:
    mixture = Mixture((40,), (1.0,), seed=0)
    shards = [np.repeat(np.arange(10, dtype=np.int32), 4)]
    together = {
        frozenset(np.flatnonzero(mixture.windows(shards, 2, epoch)[::4] == number).tolist())
        for epoch in range(6)
        for number in range(5)
    }
    assert len(together) > 15
