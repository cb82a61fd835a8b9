"""Runs the same function in several processes at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mmae.bench.clock import Speed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def together(measure: Callable[[], Speed], processes: int) -> Speed:
    """The speed of several processes that start `measure` at the same time: rates add up, times a tile do not."""
    if processes == 1:
        return measure()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]

    def one(connection: Connection[Any, Any]) -> None:
        barrier.wait()
        connection.send(measure())

    running = [context.Process(target=one, args=(theirs,)) for _, theirs in pipes]
    for process in running:
        process.start()
    for _, theirs in pipes:
        theirs.close()
    speeds: list[Speed] = [ours.recv() for ours, _ in pipes]
    for process in running:
        process.join()
    return Speed(sum(speed.tiles_per_s for speed in speeds), fmean(speed.cpu_us for speed in speeds))
