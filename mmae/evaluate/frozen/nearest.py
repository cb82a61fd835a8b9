"""Nearest neighbours by cosine: the mean of their targets, weighted by exp(similarity / temperature).

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018), section 3.4.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmae.errors import InputError

_CHUNK: Final = 1024
_SAME: Final = 1e-12
"""Similarities that differ by less are equal: rounding is not a reason to leave a neighbour out."""


def knn(train_ND: Tensor, target_NT: Tensor, x_MD: Tensor, k: int = 20, temperature: float = 0.07) -> Tensor:
    """The weighted mean of the targets of the k nearest rows, float64 (M, T).

    Rows that are as near as the k-th all count, so that the order of the rows does not matter. With one-hot targets
    the result is each class's share of the votes.

    Args:
        train_ND: float features of the neighbours.
        target_NT: their targets, of any dtype.
        x_MD: float features of the rows that are asked about.
        k: number of neighbours.
        temperature: the smaller, the more the nearest count.

    Raises:
        InputError: there are fewer rows than k.
    """
    if k > len(train_ND):
        raise InputError(f"kNN with k {k}: only {len(train_ND)} rows to choose from: take a smaller k or more tiles")
    near_DN = normalize(train_ND.double(), dim=1).T
    target_NT = target_NT.double()
    asked_MD = normalize(x_MD.double(), dim=1)
    starts = range(0, len(asked_MD), _CHUNK)
    parts = [_mean_m(asked_MD[start : start + _CHUNK], near_DN, target_NT, k, temperature) for start in starts]
    return torch.cat(parts) if parts else target_NT.new_empty(0, target_NT.shape[1])


def _mean_m(x_mD: Tensor, near_DN: Tensor, target_NT: Tensor, k: int, temperature: float) -> Tensor:
    cosine_mN = x_mD @ near_DN
    nearest_mk = cosine_mN.topk(k, dim=1).values
    # The largest exponent is 0, so that no temperature overflows.
    weight_mN = ((cosine_mN - nearest_mk[:, :1]) / temperature).exp()
    weight_mN = torch.where(cosine_mN >= nearest_mk[:, -1:] - _SAME, weight_mN, 0)
    return weight_mN @ target_NT / weight_mN.sum(1, keepdim=True)
