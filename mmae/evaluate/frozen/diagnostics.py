"""Whether features have collapsed: their rank, how evenly they cover the sphere, and how alike they are.

RankMe: Garrido et al. (ICML 2023), section 3. Effective rank: Roy and Vetterli (EUSIPCO 2007). Uniformity: Wang and
Isola (ICML 2020), section 4.1.2. A large vector that all rows share hides everything else: it makes the rank about 1
and all cosines about 1. So ranks are also given of centred features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmae.errors import InputError

MOST_ROWS: Final = 4096
_EPSILON: Final = 1e-7
"""RankMe's; the effective rank has none."""


@dataclass(frozen=True)
class Diagnostics:
    """Attributes:
    rows: the number of rows that were looked at.
    dim: width of the features, which no rank exceeds.
    rankme, effective_rank: exp of the entropy of the singular values; `_centred`: after the mean was taken away.
    uniformity: log of the mean of exp(-2 d^2) over pairs of normalised rows; 0 if all are equal, lower is better.
    cosine_mean, cosine_deviation: over pairs of rows.
    norm_mean, norm_deviation: lengths of rows.
    """

    rows: int
    dim: int
    rankme: float
    effective_rank: float
    rankme_centred: float
    effective_rank_centred: float
    uniformity: float
    cosine_mean: float
    cosine_deviation: float
    norm_mean: float
    norm_deviation: float


def diagnose(x_ND: Tensor, seed: int = 0, most: int = MOST_ROWS) -> Diagnostics:
    """Diagnostics of at least two rows; of more than `most` rows, some are drawn with a seed.

    Raises:
        InputError: there are fewer than two rows, or features that are not finite.
    """
    if len(x_ND) < 2:
        raise InputError(f"diagnostics need two rows, and there is {len(x_ND)}: take more tiles")
    if not bool(torch.isfinite(x_ND).all()):
        raise InputError("features are not finite: the weights have diverged, or a tile holds no data")
    if len(x_ND) > most:
        drawn = torch.randperm(len(x_ND), generator=torch.Generator().manual_seed(seed))[:most]
        x_ND = x_ND[drawn.sort().values.to(x_ND.device)]
    x_ND = x_ND.double()
    values = torch.linalg.svdvals(x_ND)
    centred = torch.linalg.svdvals(x_ND - x_ND.mean(0))
    unit_ND, norm_N = normalize(x_ND, dim=1), x_ND.norm(dim=1)
    rows = len(x_ND)
    upper = torch.ones(rows, rows, dtype=torch.bool, device=x_ND.device).triu(1)
    cosine_P = (unit_ND @ unit_ND.T)[upper]
    # Of unit vectors the squared distance is 2 - 2 cosine.
    uniformity = (4 * cosine_P - 4).exp().mean().log()
    return Diagnostics(
        rows=rows,
        dim=x_ND.shape[1],
        rankme=_rank(values, _EPSILON),
        effective_rank=_rank(values, 0.0),
        rankme_centred=_rank(centred, _EPSILON),
        effective_rank_centred=_rank(centred, 0.0),
        uniformity=float(uniformity),
        cosine_mean=float(cosine_P.mean()),
        cosine_deviation=float(cosine_P.std(correction=0)),
        norm_mean=float(norm_N.mean()),
        norm_deviation=float(norm_N.std(correction=0)),
    )


def _rank(values_R: Tensor, epsilon: float) -> float:
    """exp(entropy) of singular values; 0 where all are 0."""
    total = values_R.sum()
    if total <= 0:
        return 0.0
    share_R = values_R / total + epsilon
    return float(torch.special.entr(share_R).sum().exp())
