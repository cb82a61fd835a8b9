from __future__ import annotations

import io
import signal
from pathlib import Path
from typing import IO, cast

import pytest
import torch

from mmae.disk.library_file import library_file
from tests.support.full_disk import REASON, files_up_to


def test_what_is_written_is_what_was_meant(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(1000.0)}
    torch.save(tensors, tmp_path / "plain")
    with (tmp_path / "ours").open("w+b") as file, library_file(file) as output:
        torch.save(tensors, cast("IO[bytes]", output))
    assert torch.equal(torch.load(tmp_path / "ours", weights_only=True)["a"], tensors["a"])


def fill(path: Path, buffering: int) -> None:
    with path.open("w+b", buffering=buffering) as file, library_file(file) as output:
        assert output.write(bytes(100_000)) == 100_000
        assert output.write(b"more") == 4
        torch.save({"a": torch.zeros(1000)}, cast("IO[bytes]", output))


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_failed_write_is_raised_behind_the_library(buffering: int, tmp_path: Path) -> None:
    with files_up_to(4096), pytest.raises(OSError, match=REASON):
        fill(tmp_path / "a", buffering)
    assert (tmp_path / "a").stat().st_size <= 4096


def signalled(number: int, caught: list[int]) -> None:
    with library_file(io.BytesIO()) as output:
        signal.raise_signal(number)
        output.write(b"x")
        assert caught == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_until_the_library_is_done(number: int) -> None:
    caught: list[int] = []
    before = signal.signal(number, lambda number, _: caught.append(number))
    try:
        with pytest.raises(InterruptedError):
            signalled(number, caught)
        assert caught == [number]
    finally:
        signal.signal(number, before)


def interrupted() -> None:
    with library_file(io.BytesIO()):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_is_one_in_the_end() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
