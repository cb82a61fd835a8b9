"""The matrix products of a real step, recorded as they are dispatched.

Those of attention follow from its shapes, and a convolution over patches counts as the product that it equals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmae.bench.step.matmuls import Matmul

_aten = torch.ops.aten


def record(step: Callable[[], object]) -> Counter[Matmul]:
    """The matrix products of a step, and how often each occurs. The step must not be compiled."""
    recorder = _Recorder()
    context: AbstractContextManager[Any] = recorder
    with context:
        step()
    return recorder.found


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[Matmul] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.found.update(_products(func, args))
        return func(*args, **(kwargs or {}))


def _products(func: Any, args: Sequence[Any]) -> list[Matmul]:
    packet = func.overloadpacket
    if packet in {_aten.mm, _aten.bmm}:
        return [_product(args[0], args[1])]
    if packet in {_aten.addmm, _aten.baddbmm}:
        return [_product(args[1], args[2])]
    if packet is _aten.convolution:
        return [_convolution(args[0], args[1])]
    if packet is _aten.convolution_backward:
        forward = _convolution(args[1], args[2])
        b, m, k, n, dtype = forward.b, forward.m, forward.k, forward.n, forward.dtype
        needs_input, needs_weight = args[-1][:2]
        return [Matmul(b, m, n, k, dtype)] * needs_input + [Matmul(b, n, m, k, dtype, True)] * needs_weight
    if "scaled_dot_product" in func.name():
        return _attention(args, "backward" in func.name())
    return []


def _product(left: Tensor, right: Tensor) -> Matmul:
    m, k = left.shape[-2:]
    batch = left.shape[0] if left.dim() == 3 else 1
    return Matmul(batch, m, k, right.shape[-1], left.dtype, _is_transposed(left), _is_transposed(right))


def _is_transposed(operand: Tensor) -> bool:
    return operand.stride(-2) == 1 and operand.stride(-1) != 1


def _convolution(pixels: Tensor, weight: Tensor) -> Matmul:
    """The product that a convolution over patches equals: rows are patches, columns are output channels."""
    patch = weight.shape[-2] * weight.shape[-1]
    rows = pixels.shape[0] * pixels.shape[-2] * pixels.shape[-1] // patch
    return Matmul(1, rows, weight[0].numel(), weight.shape[0], weight.dtype, False, True)


def _attention(args: Sequence[Any], backward: bool) -> list[Matmul]:
    query, key = (args[1], args[2]) if backward else (args[0], args[1])
    heads = query.shape[:-2].numel()
    n, length, width = query.shape[-2], key.shape[-2], query.shape[-1]
    scores = Matmul(heads, n, width, length, query.dtype, False, True)
    values = Matmul(heads, n, length, width, query.dtype)
    if not backward:
        return [scores, values]
    # The gradients of values and weights, then of queries and keys. Scores that a kernel recomputes are not counted.
    transposed = Matmul(heads, length, n, width, query.dtype, True)
    return [transposed, scores, values, transposed]
