"""Runs the same function in several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def summed(rate: Callable[[], float], processes: int) -> float:
    """The sum of the results of `rate` in several processes, which start it at the same time."""
    if processes == 1:
        return rate()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]

    def one(connection: Connection[Any, Any]) -> None:
        barrier.wait()
        connection.send(rate())

    running = [context.Process(target=one, args=(theirs,)) for _, theirs in pipes]
    for process in running:
        process.start()
    for _, theirs in pipes:
        theirs.close()
    rates = [float(ours.recv()) for ours, _ in pipes]
    for process in running:
        process.join()
    return sum(rates)
