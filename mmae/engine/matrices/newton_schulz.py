"""The nearest orthogonal matrix, nearly: what Muon makes of a matrix's momentum.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024): five iterations of an odd polynomial of
degree 5 bring all singular values to between 0.7 and 1.2, whatever they were.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mmae.model.counts.block_matrices import ITERATIONS

_COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
_SMALLEST_NORM: Final = 1e-7


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Of each matrix (..., rows, columns) the nearly orthogonal one, in `dtype`; of zeros zeros.

    Args:
        dtype: what the products are computed in.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    flat = matrices.flatten(0, -3)
    x = (flat.mT if tall else flat).to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).reshape(matrices.shape)
