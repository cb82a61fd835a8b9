"""Memory shared with workers is free again when nothing refers to it any more."""

from __future__ import annotations

import gc
import multiprocessing
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmae.data.loading.shared_buffers import SharedBuffers
from mmae.data.shards.index_json import DatasetInfo

INFOS = {
    "sentinel2": DatasetInfo(np.dtype("<u2"), (3, 5)),
    "month": DatasetInfo(np.dtype("<f4"), (2,)),
    "scalar": DatasetInfo(np.dtype("i1"), ()),
}


def drain(buffers: SharedBuffers) -> list[int]:
    taken = []
    while (buffer := buffers.take()) is not None:
        taken.append(buffer)
    return taken


def test_arrays_are_of_the_stored_dtype_and_do_not_overlap() -> None:
    buffers = SharedBuffers(INFOS, tiles=3, number_of=2)
    for buffer in range(2):
        for number, array in enumerate(buffers.to_write(buffer).values()):
            array[:] = 10 * buffer + number
    for buffer in range(2):
        arrays = buffers.handed_over(buffer)
        assert {name: (array.dtype, array.shape) for name, array in arrays.items()} == {
            name: (info.dtype, (3, *info.shape)) for name, info in INFOS.items()
        }
        for number, array in enumerate(arrays.values()):
            assert (array == 10 * buffer + number).all()
            assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize(("tiles", "number_of"), [(0, 1), (1, 0), (2, 1)])
def test_none_and_one(tiles: int, number_of: int) -> None:
    buffers = SharedBuffers(INFOS, tiles, number_of)
    assert drain(buffers) == list(range(number_of))
    assert SharedBuffers({}, tiles, 1).handed_over(0) == {}


def test_a_buffer_is_free_when_the_last_view_is_gone() -> None:
    buffers = SharedBuffers(INFOS, tiles=4, number_of=1)
    (buffer,) = drain(buffers)
    arrays = buffers.handed_over(buffer)
    tensor = torch.from_numpy(arrays["sentinel2"])
    view = tensor[1:3].to(torch.int64), tensor.view(torch.int16)[2]
    del arrays
    assert buffers.take() is None
    del tensor
    assert buffers.take() is None
    del view
    assert buffers.take() == buffer


def test_a_buffer_may_be_given_back_by_another_thread_and_used_again() -> None:
    buffers = SharedBuffers(INFOS, tiles=1, number_of=1)
    for value in range(5):
        buffer = buffers.take()
        assert buffer is not None
        buffers.to_write(buffer)["scalar"][:] = value
        held = [buffers.handed_over(buffer)]
        assert held[0]["scalar"].item() == value
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()


@pytest.mark.process
def test_what_a_forked_process_writes_is_seen() -> None:
    buffers = SharedBuffers(INFOS, tiles=2, number_of=2)

    def write() -> None:
        buffers.to_write(1)["month"][:] = 1.5

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert (buffers.handed_over(1)["month"] == 1.5).all()
    assert not buffers.handed_over(0)["month"].any()


def test_they_go_with_their_last_user() -> None:
    buffers = SharedBuffers(INFOS, tiles=2, number_of=1)
    number = buffers.number
    assert SharedBuffers.of(number) is buffers
    kept = buffers.handed_over(0)["month"]
    del buffers
    gc.collect()
    with pytest.raises(KeyError):
        SharedBuffers.of(number)
    kept[:] = 3
    assert (kept == 3).all()


@given(st.lists(st.booleans(), max_size=40))
def test_no_buffer_is_ever_in_two_hands(steps: list[bool]) -> None:
    buffers = SharedBuffers({"scalar": INFOS["scalar"]}, tiles=1, number_of=3)
    held: list[tuple[int, object]] = []
    for give_back in steps:
        if give_back and held:
            held.pop(0)
        elif (buffer := buffers.take()) is not None:
            assert buffer not in [each for each, _ in held]
            held.append((buffer, buffers.handed_over(buffer)))
        else:
            assert len(held) == 3
