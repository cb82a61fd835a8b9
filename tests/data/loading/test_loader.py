"""Micro-batches come in order from worker processes. A fake reader replaces the shards."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import _utils as worker_utils
from torch.utils.data._utils import signal_handling

from mmae.config.batch_split import BatchSplit
from mmae.config.schema import DataConfig
from mmae.data.loading import loader
from mmae.data.sampling import shard_sets
from mmae.data.sampling.order import TrainOrder
from mmae.data.shards.index import Index
from mmae.data.shards.index_json import DatasetInfo, ShardInfo
from mmae.data.shards.reader import ShardStore
from mmae.draws import VALIDATION_EPOCH, tile_keys
from mmae.errors import EXIT_FAILED, InputError
from mmae.terminal.edge import ending
from mmae.types import Batch

TILES, TRAIN = 40, 30
DOMAINS = ("rgb", "depth", "sired")


@dataclass
class FakeIndex:
    """Tiles whose pixels all hold their position; training takes every tile but the first ten."""

    folder: Path = Path("shards")
    datasets: Mapping[str, DatasetInfo] = field(
        default_factory=lambda: {
            "sentinel2": DatasetInfo(np.dtype(np.uint16), (13, 4, 4)),
            "aster": DatasetInfo(np.dtype(np.int16), (2, 4, 4)),
            "biome": DatasetInfo(np.dtype(np.uint8), (14,)),
        }
    )
    row: np.ndarray = field(default_factory=lambda: np.arange(TILES, dtype=np.int64) * 3)
    level: np.ndarray = field(default_factory=lambda: (np.arange(TILES) % 2).astype(np.uint8))

    shards: tuple[ShardInfo, ...] = (
        ShardInfo("train-000000.tar", "train", TRAIN, 0, ""),
        ShardInfo("val-000000.tar", "val", TILES - TRAIN, 0, ""),
    )

    def of_split(self, split: str) -> np.ndarray:
        return {"train": np.arange(10, TILES), "val": np.arange(10)}[split]

    positions = of_split


class FakeReader:
    """Reads a `FakeIndex`.

    Position 13 is damaged, 17 ends its process, 15 is a defect of ours, and from 19 nothing ever comes.
    """

    broken = False

    def __init__(self, index: FakeIndex, datasets: Sequence[str], store: ShardStore | None) -> None:
        assert tuple(datasets) == ("sentinel2", "aster")
        assert store is None
        self.process = os.getpid()
        self.expected: list[int] = []

    def will_need(self, positions: np.ndarray) -> None:
        self.expected += positions.tolist()

    def read_into(
        self, positions: np.ndarray, out: Mapping[str, np.ndarray], slots: Sequence[int], on_damage: object
    ) -> None:
        for position, slot in zip(positions.tolist(), slots, strict=True):
            self.read_one(position, out, slot)

    def read_one(self, position: int, out: Mapping[str, np.ndarray], slot: int) -> None:
        assert self.process == os.getpid()
        self.expected.remove(position)
        if FakeReader.broken and position == 13:
            raise InputError("train-000000.tar: damaged, repack")
        if FakeReader.broken and position == 17:
            os._exit(3)
        if FakeReader.broken and position == 15:
            raise ZeroDivisionError("a defect")
        if FakeReader.broken and position == 19:
            time.sleep(10_000)
        for array in out.values():
            array[slot] = position


@pytest.fixture(autouse=True)
def _fake_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_sets, "ShardReader", FakeReader)
    monkeypatch.setattr(FakeReader, "broken", False)


INDEX = cast(Index, FakeIndex())
SPLIT = BatchSplit(micro=3, accumulation=2, world=2)
ORDER = TrainOrder(TRAIN, SPLIT.global_batch, seed=5)


def train(workers: int, start: int = 0, stop: int = 5, rank: int = 0, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"seed": 5, "order": ORDER, "split": SPLIT, "pin": False} | changes
    config = DataConfig(workers=workers, prefetch=2)
    return loader.train_batches(INDEX, DOMAINS, config, rank=rank, start_step=start, stop_step=stop, **arguments)


def positions(batch: Batch) -> list[int]:
    return [int(position) for position in batch.pixels["aster"][:, 0, 0, 0]]


def same(ours: Sequence[Batch], others: Sequence[Batch]) -> None:
    assert len(ours) == len(others)
    for one, other in zip(ours, others, strict=True):
        assert one.pixels.keys() == other.pixels.keys()
        for name, pixels in one.pixels.items():
            np.testing.assert_array_equal(pixels.numpy(), other.pixels[name].numpy())
        for name in ("level_B", "row_B", "key_B", "real_B"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name))


def test_a_batch_holds_the_stored_values() -> None:
    batch = next(train(workers=0))
    assert {name: (pixels.dtype, tuple(pixels.shape)) for name, pixels in batch.pixels.items()} == {
        "sentinel2": (torch.uint16, (3, 13, 4, 4)),
        "aster": (torch.int16, (3, 2, 4, 4)),
    }
    where = torch.tensor(positions(batch))
    assert (batch.pixels["sentinel2"].to(torch.int64) == where[:, None, None, None]).all()
    torch.testing.assert_close(batch.row_B, where * 3)
    torch.testing.assert_close(batch.level_B, (where % 2).to(torch.uint8))
    torch.testing.assert_close(batch.key_B, torch.from_numpy(tile_keys(5, 0, batch.row_B.numpy())))
    assert batch.real_B.tolist() == [True] * 3


def test_the_ranks_share_every_step_of_every_epoch() -> None:
    ranks = [list(train(workers=0, rank=rank)) for rank in range(SPLIT.world)]
    assert [len(batches) for batches in ranks] == [10, 10]
    for step in range(5):
        epoch, expected = ORDER.global_batch_at(step)
        assert epoch == step // 2
        parts = [batches[2 * step + micro] for micro in range(2) for batches in ranks]
        assert [p for part in parts for p in positions(part)] == (expected + 10).tolist()
        for part in parts:
            np.testing.assert_array_equal(part.key_B, tile_keys(5, epoch, part.row_B.numpy()))


@pytest.mark.process
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    same(list(train(workers)), list(train(workers=0)))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.process)])
def test_a_later_start_goes_on_where_the_run_was(workers: int) -> None:
    same(list(train(workers, start=3)), list(train(workers=0))[6:])


def test_without_steps_there_is_no_batch() -> None:
    assert list(train(workers=0, start=2, stop=2)) == []


@pytest.mark.process
def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(train(workers=1, stop=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.process), pytest.param(2, marks=pytest.mark.process)]
)
def test_validation_covers_the_split_with_keys_of_its_own(workers: int) -> None:
    config = DataConfig(workers=workers)
    seen: list[int] = []
    for rank in range(2):
        batches = list(loader.validation_batches(INDEX, DOMAINS, config, seed=5, split=SPLIT, rank=rank, pin=False))
        assert len(batches) == 2
        for batch in batches:
            np.testing.assert_array_equal(batch.key_B, tile_keys(5, VALIDATION_EPOCH, batch.row_B.numpy()))
            seen += [p for p, real in zip(positions(batch), batch.real_B.tolist(), strict=True) if real]
    assert sorted(seen) == list(range(10))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.process)])
def test_a_damaged_shard_is_one_clear_line(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReader, "broken", True)
    with pytest.raises(InputError) as caught:
        list(validation_of(workers, 13))
    assert str(caught.value) == "train-000000.tar: damaged, repack"
    del caught
    gc.collect()
    assert not multiprocessing.active_children()


def validation_of(workers: int, position: int) -> Any:
    """Batches of one tile, up to and beyond a position."""
    index = FakeIndex()
    index.of_split = lambda split: np.arange(position - 1, position + 1)  # type: ignore[method-assign]
    return loader.validation_batches(
        cast(Index, index),
        DOMAINS,
        DataConfig(workers=workers),
        seed=0,
        split=BatchSplit(1, 1, 1),
        rank=0,
        pin=False,
    )


@pytest.mark.process
def test_a_defect_keeps_its_type_and_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReader, "broken", True)
    with pytest.raises(ZeroDivisionError, match=r"(?s)read_into.*a defect"):
        list(validation_of(1, 15))


@pytest.mark.process
def test_a_lost_worker_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReader, "broken", True)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(validation_of(1, 17))


@pytest.mark.process
@pytest.mark.parametrize("close", [True, False])
def test_workers_end_with_an_abandoned_iteration(close: bool) -> None:
    batches = train(workers=2, stop=1000)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    if close:
        batches.close()
    del batches
    assert not multiprocessing.active_children()


@pytest.mark.process
def test_a_worker_that_hangs_ends_with_the_iteration_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReader, "broken", True)
    monkeypatch.setattr(worker_utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    batches = validation_of(2, 19)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.process
def test_a_worker_that_is_killed_is_one_line_with_advice() -> None:
    batches = train(workers=1, stop=1000)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError) as raised:
        list(batches)
    ended = ending(raised.value)
    assert ended is not None
    assert ended.status == EXIT_FAILED
    # torch has two sentences for it, and which one comes depends on what it does when the signal arrives.
    assert re.match(rf"error: DataLoader worker \(pid(\(s\))? {worker.pid}\) (is killed|exited)[^:]*: ", ended.line)
    assert "lower data.workers" in ended.line
    assert "\n" not in ended.line


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_job_leaves_workers_reading(number: signal.Signals) -> None:
    batches = train(workers=1, stop=1000)
    next(batches)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    os.kill(worker.pid, number)
    for _ in range(20):
        next(batches)
    assert worker.is_alive()
    batches.close()


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_job_leaves_workers_reading_that_have_just_begun(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_first = vars(signal_handling)["_set_worker_signal_handlers"]

    def then_a_signal() -> None:
        at_first()
        os.kill(os.getpid(), number)

    monkeypatch.setattr(signal_handling, "_set_worker_signal_handlers", then_a_signal)
    same(list(train(workers=2)), list(train(workers=0)))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {number}


def test_max_tiles_takes_the_first_of_the_split() -> None:
    assert loader.training_positions(INDEX, DataConfig(max_tiles=2)).tolist() == [10, 11]
    assert len(loader.training_positions(INDEX, DataConfig(max_tiles=500))) == TRAIN
    assert len(loader.training_positions(INDEX, DataConfig())) == TRAIN


def test_only_needed_datasets_and_a_missing_one_is_named() -> None:
    assert loader.needed_datasets(INDEX, DOMAINS) == ("sentinel2", "aster")
    with pytest.raises(InputError, match="shards: no dataset 'esa_worldcover', which modality 'semseg' needs"):
        loader.needed_datasets(INDEX, ("rgb", "semseg"))


def test_an_order_of_other_tiles_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        train(workers=0, order=TrainOrder(TRAIN - 1, SPLIT.global_batch, 5))
