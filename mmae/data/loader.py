"""Micro-batches from shards: worker processes decode ahead, the training process gets them in order.

Which tiles a micro-batch holds is decided in `order`; a worker is handed the answer and only reads.
So neither the number of workers nor their speed changes what a step sees.
"""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mmae.data.order import TrainOrder, rank_slices
from mmae.data.order import validation_batches as validation_positions
from mmae.data.reader import ShardReader
from mmae.draws import VALIDATION_EPOCH, tile_keys
from mmae.errors import InputError
from mmae.modalities import MODALITIES
from mmae.types import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.batching import BatchSplit
    from mmae.config import DataConfig
    from mmae.data.index import Index


@dataclass(frozen=True)
class _Request:
    """One micro-batch to read: positions in the index int64 (B,), which of them count bool (B,), and the epoch."""

    positions_B: NDArray[np.int64]
    real_B: NDArray[np.bool_]
    epoch: int


Requests = Callable[[], Iterator[_Request]]


def training_positions(index: Index, config: DataConfig) -> NDArray[np.int64]:
    """Positions in the index of the tiles that training reads, int64: the split, or its first `data.max_tiles`."""
    return index.positions("train")[: config.max_tiles]


def needed_datasets(index: Index, domains: Sequence[str]) -> tuple[str, ...]:
    """The datasets that hold `domains` (modality names), each once.

    Raises:
        InputError: the shards lack one of them.
    """
    for name in domains:
        if MODALITIES[name].dataset not in index.datasets:
            raise InputError(
                f"{index.folder}: no dataset {MODALITIES[name].dataset!r}, which modality {name!r} needs: "
                "repack with it, or leave the modality out of model.in_domains and model.out_domains"
            )
    return tuple(dict.fromkeys(MODALITIES[name].dataset for name in domains))


def train_batches(
    index: Index,
    domains: Sequence[str],
    config: DataConfig,
    *,
    seed: int,
    order: TrainOrder,
    split: BatchSplit,
    rank: int,
    start_step: int,
    stop_step: int,
    pin: bool,
) -> Iterator[Batch]:
    """A rank's micro-batches of the steps `start_step` .. `stop_step`-1, `split.accumulation` a step, in order.

    Args:
        domains: modality names; only the datasets that hold them are read.
        seed: of the tiles' random draws.
        pin: hand over batches in pinned memory (needs a CUDA device).

    Raises:
        InputError: a dataset is missing or a shard cannot be read, also where a worker found out.
    """
    tiles = training_positions(index, config)
    if len(tiles) != order.num_tiles or split.global_batch != order.global_batch:
        raise ValueError(f"{len(tiles)} tiles in batches of {split.global_batch} do not fit {order}")

    def requests() -> Iterator[_Request]:
        real_B = np.ones(split.micro, dtype=np.bool_)
        for step in range(start_step, stop_step):
            epoch, positions = order.global_batch_at(step)
            for part in rank_slices(split, rank):
                yield _Request(tiles[positions[part]], real_B, epoch)

    return _deliver(_MicroBatches(index, needed_datasets(index, domains), seed), requests, config, pin)


def validation_batches(
    index: Index, domains: Sequence[str], config: DataConfig, *, seed: int, split: BatchSplit, rank: int, pin: bool
) -> Iterator[Batch]:
    """A rank's batches of the whole `val` split; every rank gets equally many, padding has `real_B` False.

    Arguments and errors are those of `train_batches`; the draws' keys are the same at every validation.
    """
    tiles = index.positions("val")

    def requests() -> Iterator[_Request]:
        for positions, real_B in validation_positions(len(tiles), split.micro, split.world, rank):
            yield _Request(tiles[positions], real_B, VALIDATION_EPOCH)

    return _deliver(_MicroBatches(index, needed_datasets(index, domains), seed), requests, config, pin)


def read_batches(
    index: Index, domains: Sequence[str], positions: NDArray[np.int64], *, seed: int, epoch: int, size: int = 32
) -> Iterator[Batch]:
    """The tiles at `positions` in the index, in batches of `size` and a shorter last one, read in this process.

    For commands that look at tiles; training reads through `train_batches`.
    """
    reading = _MicroBatches(index, needed_datasets(index, domains), seed)
    for start in range(0, len(positions), size):
        part = positions[start : start + size]
        yield reading.read(_Request(part, np.ones(len(part), dtype=np.bool_), epoch))


class _MicroBatches(Dataset[Batch | InputError]):
    """Reads one requested micro-batch an item; the reader is opened by the process that reads."""

    def __init__(self, index: Index, datasets: Sequence[str], seed: int) -> None:
        self._index = index
        self._datasets = datasets
        self._seed = seed
        self._reader: ShardReader | None = None

    def __getitem__(self, request: _Request) -> Batch | InputError:
        # Raised in a worker, torch would wrap the one line in two tracebacks: it is handed over instead.
        try:
            return self.read(request)
        except InputError as error:
            return error

    def read(self, request: _Request) -> Batch:
        if self._reader is None:
            self._reader = ShardReader(self._index, self._datasets)
        infos = {name: self._index.datasets[name] for name in self._datasets}
        size = len(request.positions_B)
        pixels = {name: np.empty((size, *info.shape), info.dtype) for name, info in infos.items()}
        for slot, position in enumerate(request.positions_B.tolist()):
            self._reader.read_into(position, pixels, slot)
        row_B = self._index.row[request.positions_B]
        return Batch(
            pixels={name: torch.from_numpy(array) for name, array in pixels.items()},
            level_B=torch.from_numpy(self._index.level[request.positions_B]),
            row_B=torch.from_numpy(row_B),
            key_B=torch.from_numpy(tile_keys(self._seed, request.epoch, row_B)),
            real_B=torch.from_numpy(request.real_B.copy()),
        )


class _Sampler:
    """An iterable of requests, made as they are asked for: a run has more steps than a list should hold."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[_Request]:
        return self._requests()


def _deliver(dataset: _MicroBatches, requests: Requests, config: DataConfig, pin: bool) -> Iterator[Batch]:
    loader: DataLoader[Batch | InputError] = DataLoader(
        dataset,
        batch_size=None,
        sampler=_Sampler(requests),
        num_workers=config.workers,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_trainer,
        # An own generator: starting workers must not advance the global one, or a resumed run would differ.
        generator=torch.Generator(),
    )
    items = iter(loader)
    # After an error elsewhere the interpreter ends with this iteration still open. It would ask the workers to end by
    # SIGTERM, which they leave to the trainer, and wait for them for ever.
    end = partial(_kill_workers, weakref.ref(items))
    atexit.register(end)
    try:
        for item in items:
            if isinstance(item, InputError):
                raise item
            yield item
    finally:
        atexit.unregister(end)
        # The last reference: its workers end here, also where the iteration is abandoned.
        del items


def _kill_workers(items: weakref.ref[Any]) -> None:
    for worker in getattr(items(), "_workers", ()):
        worker.kill()


def _leave_signals_to_the_trainer(_worker: int) -> None:
    # Schedulers signal every process of a job. The trainer answers by saving, for which it may need its workers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
