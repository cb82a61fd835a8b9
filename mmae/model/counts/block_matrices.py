"""The matrices of encoder and decoder blocks that Muon trains (`train.optimizer=muon`), and what a step costs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mmae.config.schema import Config
from mmae.model.counts.named_parts import learns
from mmae.model.counts.parameter_sizes import parameter_shapes

ITERATIONS: Final = 5
"""Of Newton and Schulz, in which a step makes a matrix nearly orthogonal."""
_MATRIX: Final = re.compile(
    r"model\.(encoder\.blocks\.\d+|decoders(\.blocks\.\d+)?)\.(attn|cross_attention|mlp)\.(?P<linear>\w+)\.weight"
)
_PARTS: Final = {"qkv": 3, "kv": 2}


@dataclass(frozen=True)
class Matrices:
    """The matrices of one parameter, of one shape: each has a shorter and a longer side."""

    count: int
    short: int
    long: int

    @property
    def products(self) -> tuple[tuple[int, int, int], ...]:
        """Of an iteration, as rows, inner and columns: a matrix times itself, transposed; the square of that; and their
        sum times the matrix.
        """
        short, long = self.short, self.long
        return (short, long, short), (short, short, short), (short, short, long)

    @property
    def flops(self) -> int:
        """Of a step."""
        return ITERATIONS * self.count * sum(2 * math.prod(product) for product in self.products)


def matrices_above(name: str) -> int:
    """How many matrices lie one above the other in a parameter of a `PretrainModule`, by its name; 0: not Muon's."""
    found = _MATRIX.fullmatch(name)
    return _PARTS.get(found["linear"], 1) if found else 0


def muon_matrices(config: Config) -> Iterator[Matrices]:
    """The matrices of each parameter that Muon trains; none where AdamW trains all."""
    if config.train.optimizer != "muon":
        return
    for name, shape in parameter_shapes(config.model).items():
        if (above := matrices_above(name)) and learns(name, config.train):
            *stack, rows, columns = shape
            short, long = sorted((rows // above, columns))
            yield Matrices(math.prod(stack) * above, short, long)
