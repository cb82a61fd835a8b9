"""What is fitted and asked: rows of features with their targets, and the four kinds of targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["classes", "labels", "values", "pixels"]
"""One class a row; several labels a row; numbers; the classes of the label pixels in a patch."""

NO_LABEL = -1
"""The class of a pixel that no loss and no score counts."""


@dataclass(frozen=True)
class Task:
    """Attributes:
    kind: of the targets.
    outputs: the number of classes, of labels, or of numbers.
    """

    kind: Kind
    outputs: int


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one part of the data: train, val or test.

    Attributes:
        x_ND: float features.
        y: targets: int64 (N,) classes; bool (N, C) labels; float (N, T) values; int64 (N, Q) classes of the Q label
            pixels of a row, `NO_LABEL` where there is none.
    """

    x_ND: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if len(self.x_ND) != len(self.y):
            raise ValueError(f"{len(self.x_ND)} rows of features and {len(self.y)} targets")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: Tensor | slice) -> Part:
        return Part(self.x_ND[rows], self.y[rows])

    def joined(self, other: Part) -> Part:
        """The rows of this part, and those of the other behind them."""
        return Part(torch.cat([self.x_ND, other.x_ND]), torch.cat([self.y, other.y]))

    def with_features(self, x_ND: Tensor) -> Part:
        """The same targets with other features."""
        return Part(x_ND, self.y)
