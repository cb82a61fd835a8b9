"""Matrix products, ready to be run alone in the shapes, layouts and dtype that they have in a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

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
