"""The bound of a step: its matrix products alone, in the same shapes, layouts and dtype, with nothing between them.

The products of a real step are recorded as they are dispatched, then run again on separate buffers. Those of
attention follow from its shapes, and a convolution over patches counts as the product that it equals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
_ROTATE_BYTES: Final = 1 << 26
"""Operands of one shape take turns over about this much memory, because no step finds its weights in the cache."""


@dataclass(frozen=True)
class Matmul:
    """A batched product (b, m, k) x (b, k, n) of one dtype, and which operands are stored transposed."""

    b: int
    m: int
    k: int
    n: int
    dtype: torch.dtype
    left_transposed: bool = False
    right_transposed: bool = False

    @property
    def flops(self) -> int:
        return 2 * self.b * self.m * self.k * self.n


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


class Replay:
    """Recorded products, ready to be run again on a device."""

    def __init__(self, products: Mapping[Matmul, int], device: torch.device) -> None:
        self._calls = [(_operands(product, device), count) for product, count in products.items()]

    def __call__(self) -> None:
        for operands, count in self._calls:
            for number in range(count):
                left, right, out = operands[number % len(operands)]
                torch.bmm(left, right, out=out) if left.dim() == 3 else torch.mm(left, right, out=out)


def _operands(product: Matmul, device: torch.device) -> list[tuple[Tensor, Tensor, Tensor]]:
    size = torch.empty(0, dtype=product.dtype).element_size()
    elements = product.b * (product.m * product.k + product.k * product.n + product.m * product.n)
    sets = max(1, min(16, _ROTATE_BYTES // (size * elements)))
    noise = torch.randn(1 << 16, device=device).to(product.dtype)
    return [_operand_set(product, noise) for _ in range(sets)]


def _operand_set(product: Matmul, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    def filled(rows: int, columns: int, transposed: bool) -> Tensor:
        shape = (product.b, columns, rows) if transposed else (product.b, rows, columns)
        values = _repeated(noise, product.b * rows * columns).view(shape)
        values = values.transpose(1, 2) if transposed else values
        return values[0] if product.b == 1 else values

    left = filled(product.m, product.k, product.left_transposed)
    right = filled(product.k, product.n, product.right_transposed)
    return left, right, filled(product.m, product.n, False)


def _repeated(noise: Tensor, count: int) -> Tensor:
    """A new buffer of random numbers. With equal ones a device would use less power and be faster than in a step."""
    return noise.repeat(-(-count // len(noise)))[:count] if count > len(noise) else noise[:count].clone()
