"""A share of the training rows: how much a score needs labels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mmae.draws import tile_keys
from mmae.errors import InputError
from mmae.evaluate.frozen.parts import Kind


def check_fraction(fraction: float) -> None:
    """Raise InputError unless 0 < fraction <= 1."""
    if not 0 < fraction <= 1:
        raise InputError(f"label fraction {fraction:g}: give a number above 0, and at most 1")


def take_fraction(kind: Kind, y: Tensor, keys: Tensor, fraction: float, seed: int) -> Tensor:
    """Rows of a share of the labels, int64, in ascending order; those of a smaller share are among them.

    Of targets that are classes, at least one row of each class stays. The draw depends on the seed and the rows' keys,
    not on their order.

    Args:
        keys: int64 (N,), what a row is called, such as its row in the source.

    Raises:
        InputError: the fraction is not above 0 and at most 1.
    """
    check_fraction(fraction)
    rank_N = tile_keys(seed, 0, keys.cpu().numpy())
    groups = y.cpu().numpy() if kind == "classes" else np.zeros(len(y), np.int64)
    taken = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        rows = rows[np.argsort(rank_N[rows], kind="stable")]
        taken.append(rows[: max(1, math.ceil(fraction * len(rows) - 1e-9))])
    return torch.from_numpy(np.sort(np.concatenate(taken))) if taken else torch.empty(0, dtype=torch.int64)
