"""Memory shared with workers, given back when nobody looks at it any more."""

from __future__ import annotations

import gc
import multiprocessing
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmae.data.index import DatasetInfo
from mmae.data.slabs import Slabs

INFOS = {
    "sentinel2": DatasetInfo(np.dtype("<u2"), (3, 5)),
    "month": DatasetInfo(np.dtype("<f4"), (2,)),
    "scalar": DatasetInfo(np.dtype("i1"), ()),
}


def drain(slabs: Slabs) -> list[int]:
    taken = []
    while (slab := slabs.take()) is not None:
        taken.append(slab)
    return taken


def test_arrays_are_of_the_stored_dtype_and_do_not_overlap() -> None:
    slabs = Slabs(INFOS, tiles=3, number_of=2)
    for slab in range(2):
        for number, array in enumerate(slabs.to_write(slab).values()):
            array[:] = 10 * slab + number
    for slab in range(2):
        arrays = slabs.handed_over(slab)
        assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
            name: (info.dtype, (3, *info.shape)) for name, info in INFOS.items()
        }
        for number, array in enumerate(arrays.values()):
            assert (array == 10 * slab + number).all()
            assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(("tiles", "number_of"), [(0, 1), (1, 0), (2, 1)])
def test_none_and_one(tiles: int, number_of: int) -> None:
    slabs = Slabs(INFOS, tiles, number_of)
    assert drain(slabs) == list(range(number_of))
    assert Slabs({}, tiles, 1).handed_over(0) == {}


def test_a_slab_is_free_when_the_last_view_is_gone() -> None:
    slabs = Slabs(INFOS, tiles=4, number_of=1)
    (slab,) = drain(slabs)
    arrays = slabs.handed_over(slab)
    tensor = torch.from_numpy(arrays["sentinel2"])
    view = tensor[1:3].to(torch.int64), tensor.view(torch.int16)[2]
    del arrays
    assert slabs.take() is None
    del tensor
    assert slabs.take() is None
    del view
    assert slabs.take() == slab


def test_a_slab_may_be_given_back_by_another_thread_and_used_again() -> None:
    slabs = Slabs(INFOS, tiles=1, number_of=1)
    for value in range(5):
        slab = slabs.take()
        assert slab is not None
        slabs.to_write(slab)["scalar"][:] = value
        held = [slabs.handed_over(slab)]
        assert held[0]["scalar"].item() == value
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()


def test_what_a_forked_process_writes_is_seen() -> None:
    slabs = Slabs(INFOS, tiles=2, number_of=2)

    def write() -> None:
        slabs.to_write(1)["month"][:] = 1.5

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert (slabs.handed_over(1)["month"] == 1.5).all()
    assert not slabs.handed_over(0)["month"].any()


def test_they_go_with_their_last_user() -> None:
    slabs = Slabs(INFOS, tiles=2, number_of=1)
    number = slabs.number
    assert Slabs.of(number) is slabs
    kept = slabs.handed_over(0)["month"]
    del slabs
    gc.collect()
    with pytest.raises(KeyError):
        Slabs.of(number)
    kept[:] = 3
    assert (kept == 3).all()


@given(st.lists(st.booleans(), max_size=40))
def test_no_slab_is_ever_in_two_hands(steps: list[bool]) -> None:
    slabs = Slabs({"scalar": INFOS["scalar"]}, tiles=1, number_of=3)
    held: list[tuple[int, object]] = []
    for give_back in steps:
        if give_back and held:
            held.pop(0)
        elif (slab := slabs.take()) is not None:
            assert slab not in [each for each, _ in held]
            held.append((slab, slabs.handed_over(slab)))
        else:
            assert len(held) == 3
