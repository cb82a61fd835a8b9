"""Looks at operator calls for those that make the host wait for the device."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mmae

WAITING = (
    "_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "nonzero_numpy", "argwhere",
    "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive",
    "bincount", "repeat_interleave",
)  # fmt: skip
"""Operators that read a number of a device, or whose result's shape follows from numbers."""
MASKED = ("index", "index_put", "index_put_", "_index_put_impl_")
"""Operators that do so where an index is a mask."""
HOST_DATA = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor)
"""What makes a tensor of the host's numbers, which a GPU gets by a copy that is waited for."""


@dataclass
class Seen:
    """What waits for a device: the operator, and the line of ours that called it."""

    waits: list[str] = field(default_factory=list)
    calls: int = 0

    def note(self, what: object) -> None:
        ours = [f for f in traceback.extract_stack() if f.filename.startswith(str(Path(mmae.__file__).parent))]
        self.waits.append(f"{what} at {ours[-1].filename}:{ours[-1].lineno}" if ours else str(what))


def waits(func: Any, args: Any) -> bool:
    """Whether the host waits for the device in this call of an operator."""
    name = func.overloadpacket.__name__
    masked = name in MASKED and any(
        isinstance(leaf, Tensor) and leaf.dtype in {torch.bool, torch.uint8} for leaf in tree_leaves(args[1])
    )
    return name in WAITING or masked


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Looks at every operator call, those of the backward pass too."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        # Between the host and the device: copies, and numbers of the host as tensors.
        mixed = len({leaf.device.type for leaf in tensors}) > 1
        self.seen.calls += 1
        if waits(func, args) or mixed:
            self.seen.note(func)
        return result


class HostData(TorchFunctionMode):
    """Looks for tensors made of the host's numbers, which operators do not tell from any others."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in HOST_DATA:
            self.seen.note(func)
        return func(*args, **(kwargs or {}))


@contextmanager
def watching() -> Iterator[Seen]:
    seen = Seen()
    with HostData(seen), Operators(seen):
        yield seen
