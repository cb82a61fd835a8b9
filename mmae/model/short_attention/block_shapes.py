"""The sizes of blocks that the kernels hold, for lengths and widths that they take. Powers of 2, as Triton wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MOST_TOKENS: Final = 64
"""Of queries, and of keys: a program holds all of them."""
MOST_WIDTH: Final = 128
"""Of a head."""
_LEAST: Final = 16
"""Rows and columns of an operand that the tensor cores multiply."""
_FLOAT32: Final = 4


@dataclass(frozen=True)
class BlockShapes:
    """What a kernel is compiled for.

    Attributes:
        width: columns of a head.
        first: columns of the first block, and `rest` of the second one, or 0.
        query_rows: rows of blocks of queries; `key_rows`: of keys and values.
        warps: groups of 32 threads that share a program.
    """

    width: int
    first: int
    rest: int
    query_rows: int
    key_rows: int
    warps: int

    def constants(self, interpreted: bool) -> dict[str, Any]:
        """By the names of the kernels' arguments.

        Products of float32 are made of three of TensorFloat-32 (error: about 1e-6). By multiplications and additions
        one after another, a program would keep most of its numbers in memory.
        """
        return {
            "WIDTH": self.width, "FIRST": self.first, "REST": self.rest, "QUERY_ROWS": self.query_rows,
            "KEY_ROWS": self.key_rows, "PRECISION": "tf32x3", "WIDEN": interpreted,
        }  # fmt: skip


def block_shapes(queries: int, keys: int, width: int, number_bytes: int) -> BlockShapes:
    """The blocks for `queries` and `keys` of heads of `width` columns.

    Args:
        number_bytes: of a number of the inputs: 2 or 4.
    """
    # Four warps are what one product of a Hopper or Blackwell GPU is made by.
    warps = 8 if number_bytes == _FLOAT32 else 4
    return BlockShapes(width, *_columns(width), _power(queries), _power(keys), warps)


def _columns(width: int) -> tuple[int, int]:
    whole = _power(width)
    # Of 80 columns 48 would be empty in one block, and none in two.
    half = whole // 2
    if whole == width or half < _LEAST:
        return whole, 0
    rest = _power(width - half)
    return (half, rest) if half + rest < whole else (whole, 0)


def _power(number: int) -> int:
    """The smallest power of 2 that is not smaller than `number` and `_LEAST`."""
    return max(_LEAST, 1 << (number - 1).bit_length())
