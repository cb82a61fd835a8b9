"""Dirichlet shares from counter-based uniforms: the same draws on every device, without synchronising.

A Dirichlet is a vector of gamma variates divided by its sum. Everything is done on logarithms in float64: a small
concentration underflows otherwise, and devices agree on a rounded share unless their logarithms differ by an ulp
exactly at a half.

Shape suffixes beside `mmae.types`: R rejection rounds.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from mmae.draws import Stream, uniform

ROUNDS: Final = 12
"""Rejection rounds of the gamma sampler. Each fails with probability below 0.05: all do once in 10^15 draws."""

_DRAWS: Final = 3 * ROUNDS + 1


def dirichlet_shares(key_B: Tensor, alphas_m: tuple[float, ...], chosen_BM: Tensor) -> Tensor:
    """Shares ~ Dirichlet over the chosen modalities of each tile; others have 0. float64 (B, M).

    Args:
        key_B: int64, keys of the tiles' draws.
        alphas_m: one positive concentration a modality.
        chosen_BM: bool; a tile that chooses none has shares of 0 throughout.
    """
    log_gamma_BM = _log_exponentials(key_B, len(alphas_m)) if set(alphas_m) == {1.0} else _log_gammas(key_B, alphas_m)
    log_gamma_BM = torch.where(chosen_BM, log_gamma_BM, -torch.inf)
    any_B1 = chosen_BM.any(dim=1, keepdim=True)
    return torch.where(any_B1, log_gamma_BM, 0.0).softmax(dim=1) * any_B1


def beta_shares(key_B: Tensor, alpha: float, stream: Stream) -> Tensor:
    """A share ~ Beta(alpha, alpha) for each sample, float64 (B,).

    Args:
        key_B: int64, keys of the samples' draws.
        stream: what the draw is for.
    """
    log_gamma_B2 = _log_gammas(key_B, (alpha, alpha), stream)
    return (log_gamma_B2[:, 0] - log_gamma_B2[:, 1]).sigmoid()


def _log_exponentials(key_B: Tensor, count: int) -> Tensor:
    return (-uniform(key_B, Stream.MASK_SHARES, count).double().log()).log()


def _log_gammas(key_B: Tensor, alphas_m: tuple[float, ...], stream: Stream = Stream.MASK_SHARES) -> Tensor:
    draws_BMR = uniform(key_B, stream, len(alphas_m) * _DRAWS).double().view(-1, len(alphas_m), _DRAWS)
    columns = [_log_gamma(alpha, draws_BR) for alpha, draws_BR in zip(alphas_m, draws_BMR.unbind(1), strict=True)]
    return torch.stack(columns, dim=1)


def _log_gamma(alpha: float, draws_BR: Tensor) -> Tensor:
    """Log of a gamma variate a tile, (B,): Marsaglia and Tsang, ACM TOMS 26(3), 2000; section 6 for alpha below 1."""
    radius_BR, angle_BR, accept_BR = draws_BR[:, :-1].reshape(-1, 3, ROUNDS).unbind(1)
    normal_BR = (-2.0 * radius_BR.log()).sqrt() * (2.0 * math.pi * angle_BR).cos()
    d = (alpha + 1.0 if alpha < 1.0 else alpha) - 1.0 / 3.0
    v_BR = (1.0 + normal_BR / math.sqrt(9.0 * d)) ** 3
    log_v_BR = v_BR.clamp(min=torch.finfo(torch.float64).tiny).log()
    accepted_BR = (v_BR > 0) & (accept_BR.log() < 0.5 * normal_BR**2 + d * (1.0 - v_BR + log_v_BR))
    first_B1 = accepted_BR.to(torch.uint8).argmax(dim=1, keepdim=True)
    log_v_B = torch.where(accepted_BR.any(dim=1), log_v_BR.gather(1, first_B1).squeeze(1), 0.0)
    boost_B = draws_BR[:, -1].log() / alpha if alpha < 1.0 else 0.0
    return math.log(d) + log_v_B + boost_B
