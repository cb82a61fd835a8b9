from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.frozen.diagnostics import diagnose


def drawn(rows: int, dim: int) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


def test_isotropic_features_have_nearly_full_rank_and_spread_cosines() -> None:
    found = diagnose(drawn(4000, 16))
    assert found.rankme == pytest.approx(16, rel=0.01)
    assert found.effective_rank_centred == pytest.approx(16, rel=0.01)
    assert found.cosine_mean == pytest.approx(0, abs=0.01)
    assert found.cosine_deviation == pytest.approx(1 / math.sqrt(16), rel=0.05)


def test_collapsed_features_have_rank_1_uniformity_0_and_equal_cosines() -> None:
    found = diagnose(drawn(1, 16).expand(50, -1))
    assert found.effective_rank == pytest.approx(1)
    assert found.uniformity == pytest.approx(0, abs=1e-9)
    assert (found.cosine_mean, found.cosine_deviation) == pytest.approx((1, 0), abs=1e-6)
    assert found.norm_deviation == pytest.approx(0, abs=1e-6)


def test_a_vector_that_all_share_hides_the_rank_unless_features_are_centred() -> None:
    found = diagnose(drawn(500, 16) + 1000)
    assert found.effective_rank < 1.3
    assert found.effective_rank_centred > 15


def test_directions_of_equal_strength_are_counted() -> None:
    x_ND = torch.zeros(30, 16)
    x_ND[torch.arange(30), torch.arange(30) % 3] = 1.0
    assert diagnose(x_ND).effective_rank == pytest.approx(3)
    assert diagnose(x_ND).rankme == pytest.approx(3, rel=1e-3)


def test_features_that_are_all_0_have_no_rank() -> None:
    assert diagnose(torch.zeros(4, 3)).rankme == 0


def test_a_sample_is_drawn_by_the_seed() -> None:
    x_ND = drawn(300, 8)
    assert diagnose(x_ND, most=100) == diagnose(x_ND, most=100)
    assert diagnose(x_ND, most=100) != diagnose(x_ND, seed=1, most=100)
    assert diagnose(x_ND, most=100).rows == 100


def test_the_order_of_rows_does_not_matter() -> None:
    x_ND = drawn(60, 8)
    first, second = (dataclasses.asdict(diagnose(each)) for each in (x_ND, x_ND.flip(0)))
    assert second == pytest.approx(first)


def test_what_cannot_be_diagnosed_is_refused() -> None:
    with pytest.raises(InputError, match="need two rows"):
        diagnose(drawn(1, 3))
    with pytest.raises(InputError, match="not finite"):
        diagnose(torch.full((3, 3), torch.inf))
