"""Micro-batches on their way to the device while the step before them runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

import torch

from mmae.types import Batch


def on_device(batches: Iterator[Batch], device: torch.device, ahead: int = 1) -> Iterator[Batch]:
    """The batches on a device, in order.

    On a CUDA device the next `ahead` batches are copied while the device computes. They should come in pinned memory;
    otherwise copies are synchronous. On a CPU nothing is read in advance.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    waiting: deque[tuple[Batch, torch.cuda.Event]] = deque()
    while True:
        for batch in islice(batches, ahead + 1 - len(waiting)):
            waiting.append(_copy(batch, device, stream))
        if not waiting:
            return
        batch, arrived = waiting.popleft()
        current = torch.cuda.current_stream(device)
        current.wait_event(arrived)
        # The memory belongs to the copying stream, which must not reuse it before the computing stream has read it.
        batch.record_stream(current)
        yield batch


def _copy(batch: Batch, device: torch.device, stream: torch.cuda.Stream) -> tuple[Batch, torch.cuda.Event]:
    with torch.cuda.stream(stream):
        copied = batch.to(device)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(stream)
    return copied, arrived
