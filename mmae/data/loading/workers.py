"""Micro-batches from worker processes, in the order in which they are requested."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import torch
from torch.utils.data import DataLoader, Dataset

from mmae.data.loading.shared_buffers import SharedBuffers
from mmae.errors import InputError
from mmae.processes import die_with_parent
from mmae.types import Batch

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from mmae.config.schema import DataConfig
    from mmae.data.loading.micro_batches import Arrays, MicroBatches
    from mmae.data.sampling.batch_requests import Request, Requests

_OF_THE_TRAINER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_KILLED_S: Final = 10.0
"""Seconds to wait for the end of a killed worker: one that waits for a disk ends only after the disk answers."""


def batches_from_workers(
    reading: MicroBatches, requests: Requests, config: DataConfig, *, tiles: int, in_hand: int, pin: bool
) -> Iterator[Batch]:
    """The micro-batch of each request, read by `data.workers` processes, or by this process if that is 0.

    Args:
        tiles: the number of tiles in a micro-batch.
        in_hand: micro-batches that the caller holds at a time. More are possible, but then they are copied.
        pin: hand over pinned memory.

    Raises:
        InputError: raised here or in a worker.
    """
    buffers = (
        SharedBuffers(reading.infos, tiles, config.workers * config.prefetch + in_hand) if config.workers else None
    )
    loader: DataLoader[Batch | _Filled | InputError] = DataLoader(
        _Items(reading, buffers),
        batch_size=None,
        sampler=_Sampler(requests, buffers),
        num_workers=config.workers,
        prefetch_factor=config.prefetch if config.workers else None,
        pin_memory=pin,
        worker_init_fn=_belong_to_the_trainer,
        # Forked workers share the buffers and the index.
        multiprocessing_context="fork" if config.workers else None,
        # A separate generator: if starting workers advanced the global one, a resumed run would differ.
        generator=torch.Generator(),
    )
    # Signals are blocked during the fork, so that none can end a worker before it ignores them.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TRAINER)
    try:
        items = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    workers, trainer = tuple(getattr(items, "_workers", ())), os.getpid()
    end = partial(_end_with_the_interpreter, workers, trainer)
    atexit.register(end)
    closed = weakref.ref(items)
    try:
        for item in items:
            if isinstance(item, InputError):
                raise item
            yield item.batch() if isinstance(item, _Filled) else item
    finally:
        # This is the last reference, so the workers end here, also if the iteration is abandoned.
        del items
        # An error's traceback may hold another reference. Then torch still watches the workers.
        if closed() is None:
            # torch gives up on a worker that hangs in a file system after some seconds, and leaves it behind.
            _kill(workers, trainer)
            atexit.unregister(end)


@dataclass(frozen=True, eq=False)
class _Filled:
    """What a worker sends for a micro-batch: all but the pixels, which are in a buffer of the training process."""

    arrays: Arrays
    owner: int
    buffer: int

    def batch(self) -> Batch:
        return replace(self.arrays, pixels=SharedBuffers.of(self.owner).handed_over(self.buffer)).batch()

    def pin_memory(self) -> Batch:
        return self.batch().pin_memory()


class _Items(Dataset["Batch | _Filled | InputError"]):
    """Reads the micro-batch of a request into the buffer that came with the request."""

    def __init__(self, reading: MicroBatches, buffers: SharedBuffers | None) -> None:
        self._reading = reading
        self._buffers = buffers

    def __getitem__(self, asked: tuple[Request, int | None]) -> Batch | _Filled | InputError:
        request, buffer = asked
        # The error is returned, because torch would wrap a raised one in two tracebacks.
        try:
            if self._buffers is None or buffer is None:
                return self._reading.read(request).batch()
            arrays = self._reading.read(request, self._buffers.to_write(buffer))
            return _Filled(replace(arrays, pixels={}), self._buffers.number, buffer)
        except InputError as error:
            return error


class _Sampler:
    """Requests with buffers, created on demand: a run has too many steps for a list."""

    def __init__(self, requests: Requests, buffers: SharedBuffers | None) -> None:
        self._requests = requests
        self._buffers = buffers

    def __iter__(self) -> Iterator[tuple[Request, int | None]]:
        for request in self._requests():
            yield request, None if self._buffers is None else self._buffers.take()


def _kill(workers: Sequence[BaseProcess], owner: int) -> None:
    # A process forked since then may delete its copy of an iteration, but these are not its workers.
    mine = workers if os.getpid() == owner else ()
    for worker in mine:
        worker.kill()
    for worker in mine:
        worker.join(_KILLED_S)


def _end_with_the_interpreter(workers: Sequence[BaseProcess], owner: int) -> None:
    """After an error elsewhere the interpreter ends with an iteration still open.

    It would ask the workers to end by SIGTERM, which they leave to the trainer, and wait for them for ever.
    """
    if os.getpid() == owner:
        # torch still watches the workers: its handler would raise when the first is killed, and the others would live.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _kill(workers, owner)


def _belong_to_the_trainer(_worker: int) -> None:
    # Schedulers send signals to every process of a job. The trainer then saves, and may need its workers for that.
    for number in _OF_THE_TRAINER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_TRAINER)
    # Nor does it outlive a trainer that was killed, whatever it reads at that moment.
    trainer = multiprocessing.parent_process()
    if trainer is not None and trainer.pid is not None:
        die_with_parent(signal.SIGKILL, trainer.pid)
