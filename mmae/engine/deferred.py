"""Deferred values: the host reads them some steps after the device computed them, so that no step waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import torch
from torch import Tensor

DEFERRED_STEPS: Final = 2
"""Steps between computing a value and reading it. The same on every device, so that all devices behave alike."""

Tag = TypeVar("Tag")
Values = dict[str, list[float]]


@dataclass(frozen=True)
class _Pending(Generic[Tag]):
    """Numbers that are being copied to the host.

    Attributes:
        sizes: name -> how many of the numbers belong to it, in order.
        host: float64 numbers, valid once the event `arrived` has happened.
    """

    step: int
    tag: Tag
    sizes: Mapping[str, int]
    host: Tensor
    arrived: torch.cuda.Event | None

    def values(self) -> Values:
        if self.arrived is not None:
            self.arrived.synchronize()
        parts = torch.split(self.host, list(self.sizes.values()))
        return {name: part.tolist() for name, part in zip(self.sizes, parts, strict=True)}

    def is_there(self) -> bool:
        return self.arrived is None or bool(self.arrived.query())  # type: ignore[no-untyped-call]


class DeferredValues(Generic[Tag]):
    """A queue of small tensors, in the order of steps.

    Numbers are copied as float64, which represents every float32, bfloat16 and count exactly.
    """

    def __init__(self) -> None:
        self._pending: deque[_Pending[Tag]] = deque()

    def add(self, step: int, tag: Tag, tensors: Mapping[str, Tensor]) -> None:
        """Queue the numbers that these tensors hold now. Later changes to the tensors have no effect.

        Args:
            tensors: on one device, of any shape.
        """
        flat = {name: tensor.detach().reshape(-1) for name, tensor in tensors.items()}
        packed = torch.cat([part.to(torch.float64) for part in flat.values()])
        arrived = None
        if packed.device.type == "cuda":
            host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
            host.copy_(packed, non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
            packed = host
        self._pending.append(_Pending(step, tag, {name: len(part) for name, part in flat.items()}, packed, arrived))

    def due(self, step: int) -> Iterator[tuple[Tag, Values]]:
        """Values that were queued at least `DEFERRED_STEPS` before `step`, oldest first."""
        while self._pending and self._pending[0].step <= step - DEFERRED_STEPS:
            pending = self._pending.popleft()
            yield pending.tag, pending.values()

    def drain(self) -> Iterator[tuple[Tag, Values]]:
        """All queued values, oldest first. Waits for the device."""
        while self._pending:
            pending = self._pending.popleft()
            yield pending.tag, pending.values()

    def arrived(self) -> Iterator[tuple[Tag, Values]]:
        """Queued values that need no waiting, oldest first. After an error a device may never compute the others."""
        while self._pending and self._pending[0].is_there():
            pending = self._pending.popleft()
            yield pending.tag, pending.values()
