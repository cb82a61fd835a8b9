"""Batches on their way to the device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mmae.data.loading.device_prefetch import on_device
from mmae.types import Batch, Damage


def batch(number: int, pin: bool = False) -> Batch:
    made = Batch(
        pixels={"sentinel2": torch.full((2, 13, 64, 64), number, dtype=torch.int32)},
        level_B=torch.zeros(2, dtype=torch.uint8),
        row_B=torch.tensor([number, number]),
        key_B=torch.tensor([number, number]),
        real_B=torch.tensor([True, False]),
        damaged=(Damage("shard", number, "aster", 0, "torn"),),
    )
    return made.pin_memory() if pin else made


def test_on_a_cpu_nothing_is_read_ahead() -> None:
    read: list[int] = []

    def source() -> Iterator[Batch]:
        for number in range(3):
            read.append(number)
            yield batch(number)

    batches = on_device(source(), torch.device("cpu"), ahead=2)
    first = next(batches)
    assert int(first.row_B[0]) == 0
    assert first.damaged == batch(0).damaged
    assert read == [0]
    assert [int(each.row_B[0]) for each in batches] == [1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("pin", [True, False])
@pytest.mark.parametrize(("count", "ahead"), [(0, 1), (1, 4), (7, 1), (50, 3)])
def test_on_a_gpu_the_next_are_read_ahead_and_nothing_is_overwritten(count: int, ahead: int, pin: bool) -> None:
    read: list[int] = []

    def source() -> Iterator[Batch]:
        for number in range(count):
            read.append(number)
            yield batch(number, pin)

    device = torch.device("cuda")
    sums = []
    weight = torch.randn(2048, 2048, device=device)
    for number, each in enumerate(on_device(source(), device, ahead)):
        assert each.pixels["sentinel2"].device.type == "cuda"
        assert len(read) == min(count, number + 1 + ahead)
        assert [found.row for found in each.damaged] == [number]
        # Work in between, so that a batch whose memory was given away early would be seen.
        weight = (weight @ weight).tanh()
        sums.append(each.pixels["sentinel2"].double().mean() + 0 * weight[0, 0].double())
        del each
    assert [int(value) for value in sums] == list(range(count))
    assert len(read) == count


def test_an_error_of_the_source_comes_through() -> None:
    def source() -> Iterator[Batch]:
        yield batch(0)
        raise ZeroDivisionError

    batches = on_device(source(), torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with pytest.raises(ZeroDivisionError):
        list(batches)
