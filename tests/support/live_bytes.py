"""Bytes of the tensors that live: each storage that an operation makes, from then until nobody holds it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, `now` and `peak` are kept; storages of `known` tensors are left out."""

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._held: dict[int, list[int]] = {}
        for tensor in known:
            self._held[tensor.untyped_storage()._cdata] = [0]
        self._left_out = frozenset(self._held)

    def forget_peak(self) -> None:
        self.peak = self.now

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_iter(out):
            if isinstance(each, Tensor) and each.device.type != "meta":
                self._see(each.untyped_storage())
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._left_out:
            return
        if key in self._held:
            # It may have been resized.
            self.now += size - self._held[key][0]
            self._held[key][0] = size
        else:
            self._held[key] = [size]
            self.now += size
            weakref.finalize(storage, self._drop, key, self._held[key])
        self.peak = max(self.peak, self.now)

    def _drop(self, key: int, size: list[int]) -> None:
        self.now -= size[0]
        if self._held.get(key) is size:
            del self._held[key]
