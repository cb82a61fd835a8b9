"""L(N, D) = E + A / N^a + B / D^b: a loss by parameters and tiles.

Hoffmann et al., "Training Compute-Optimal Large Language Models" (NeurIPS 2022), section 3.3.

Shape suffixes: P points, K draws, T the five numbers of a law.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A run that has ended: how large its encoder was, how many tiles it saw, and the loss that it reached.

    Attributes:
        size: the encoder's size by name.
    """

    size: str
    parameters: int
    tiles: int
    loss: float


@dataclass(frozen=True)
class Law:
    """The five numbers of the formula."""

    irreducible: float
    of_size: float
    size_exponent: float
    of_data: float
    data_exponent: float

    def loss(self, parameters: float, tiles: float) -> float:
        """The loss of an encoder of `parameters` numbers that has seen `tiles` tiles."""
        size = self.of_size * parameters**-self.size_exponent
        return float(self.irreducible + size + self.of_data * tiles**-self.data_exponent)

    def __str__(self) -> str:
        return (
            f"{self.irreducible:.3g} + {self.of_size:.3g} / N^{self.size_exponent:.2f} + "
            f"{self.of_data:.3g} / D^{self.data_exponent:.2f}"
        )


@dataclass(frozen=True)
class Predicted:
    """A predicted loss and the interval in which nine of ten such runs are expected to end."""

    loss: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """The interval's width as a share of the loss."""
        return (self.high - self.low) / self.loss

    def __str__(self) -> str:
        return f"{self.loss:.4g} ({self.low:.4g} to {self.high:.4g})"


def quantiles(values: Iterable[float]) -> tuple[float, float]:
    """The 5 % and the 95 % quantile."""
    low, high = np.quantile(np.fromiter(values, float), (0.05, 0.95))
    return float(low), float(high)
