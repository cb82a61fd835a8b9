"""Bytes that collectives carry, counted where DeepSpeed hands them to torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any, Final
from unittest.mock import patch

import deepspeed.comm.comm as deepspeed_comm
from torch import Tensor
from torch.utils._pytree import tree_iter

_WAYS: Final = MappingProxyType({
    "all_reduce": 2, "all_gather_function": 1, "reduce_scatter_function": 1,
    "broadcast": 1, "all_gather": 1, "reduce": 1, "all_gather_coalesced": 1,
})  # fmt: skip
"""Times (ranks - 1) / ranks that the whole of what a call is about crosses each rank's link."""


class Carried:
    """Whole bytes of each call, by `_WAYS`; multiplied with (ranks - 1) / ranks they are nccl-tests' bus bytes."""

    def __init__(self) -> None:
        self.ways = 0

    def counting(self, call: Callable[..., Any], ways: int) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            sizes = [each.nbytes for each in tree_iter((args, kwargs)) if isinstance(each, Tensor)]
            self.ways += ways * max(sizes, default=0)
            return call(*args, **kwargs)

        return counted


@contextmanager
def carried_bytes() -> Iterator[Carried]:
    """Count while it is entered, in any thread and in autograd's hooks, where torch's dispatch modes do not see all."""
    backend, carried = deepspeed_comm.cdb, Carried()
    with ExitStack() as undo:
        for name, ways in _WAYS.items():
            undo.enter_context(patch.object(backend, name, carried.counting(getattr(backend, name), ways)))
        yield carried
