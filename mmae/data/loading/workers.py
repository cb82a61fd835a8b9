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
"""How long a killed worker is waited for: one that waits for a disk ends only when that answers."""


def batches_from_workers(
    reading: MicroBatches, requests: Requests, config: DataConfig, *, tiles: int, in_hand: int, pin: bool
) -> Iterator[Batch]:
    """The micro-batch of each request, read by `data.workers` processes, or in this one where there are none.

    Args:
        tiles: of a micro-batch.
        in_hand: micro-batches that the caller holds at a time; more are no error, but cost copies.
        pin: hand over pinned memory.

    Raises:
        InputError: also where a worker found out.
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
        # Forked, they share the buffers and the index.
        multiprocessing_context="fork" if config.workers else None,
        # An own generator: starting workers must not advance the global one, or a resumed run would differ.
        generator=torch.Generator(),
    )
    # Forked with the signals blocked, a worker cannot fall to one before it has learnt to ignore it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_TRAINER)
    try:
        items = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    # After an error elsewhere the interpreter ends with this iteration still open. It would ask the workers to end by
    # SIGTERM, which they leave to the trainer, and wait for them for ever.
    end = partial(_kill, tuple(getattr(items, "_workers", ())), os.getpid())
    atexit.register(end)
    closed = weakref.ref(items)
    try:
        for item in items:
            if isinstance(item, InputError):
                raise item
            yield item.batch() if isinstance(item, _Filled) else item
    finally:
        # The last reference: its workers end here, also where the iteration is abandoned.
        del items
        # Only of an error's traceback it is not: torch looks after the workers yet, and takes a killed one for lost.
        if closed() is None:
            # One that hangs, as a file system may let it, torch gives up on after seconds and leaves behind.
            end()
            atexit.unregister(end)


@dataclass(frozen=True, eq=False)
class _Filled:
    """What a worker sends of a micro-batch whose pixels stand in a buffer of the training process."""

    arrays: Arrays
    owner: int
    buffer: int

    def batch(self) -> Batch:
        return replace(self.arrays, pixels=SharedBuffers.of(self.owner).handed_over(self.buffer)).batch()

    def pin_memory(self) -> Batch:
        return self.batch().pin_memory()


class _Items(Dataset["Batch | _Filled | InputError"]):
    """The micro-batch of a request, in the buffer that it came with."""

    def __init__(self, reading: MicroBatches, buffers: SharedBuffers | None) -> None:
        self._reading = reading
        self._buffers = buffers

    def __getitem__(self, asked: tuple[Request, int | None]) -> Batch | _Filled | InputError:
        request, buffer = asked
        # Raised in a worker, torch would wrap the one line in two tracebacks: it is handed over instead.
        try:
            if self._buffers is None or buffer is None:
                return self._reading.read(request).batch()
            arrays = self._reading.read(request, self._buffers.to_write(buffer))
            return _Filled(replace(arrays, pixels={}), self._buffers.number, buffer)
        except InputError as error:
            return error


class _Sampler:
    """Requests and buffers, made as they are asked for: a run has more steps than a list should hold."""

    def __init__(self, requests: Requests, buffers: SharedBuffers | None) -> None:
        self._requests = requests
        self._buffers = buffers

    def __iter__(self) -> Iterator[tuple[Request, int | None]]:
        for request in self._requests():
            yield request, None if self._buffers is None else self._buffers.take()


def _kill(workers: Sequence[BaseProcess], owner: int) -> None:
    # A process that was forked meanwhile may let go of its copy of an iteration: they are not its workers.
    for worker in workers if os.getpid() == owner else ():
        worker.kill()
        worker.join(_KILLED_S)


def _belong_to_the_trainer(_worker: int) -> None:
    # Schedulers signal every process of a job. The trainer answers by saving, for which it may need its workers.
    for number in _OF_THE_TRAINER:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_THE_TRAINER)
    # Nor does it outlive a trainer that was killed, whatever it reads at that moment.
    trainer = multiprocessing.parent_process()
    if trainer is not None and trainer.pid is not None:
        die_with_parent(signal.SIGKILL, trainer.pid)
