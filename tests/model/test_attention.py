"""Attention against its formula."""

from __future__ import annotations

import pytest
import torch

from mmae.model.attention import attend


def by_formula(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    query, key, value = (each.double() for each in (query, key, value))
    attended: torch.Tensor = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1) @ value
    return attended


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("width", [16, 80])
def test_the_formula(dtype: torch.dtype, tolerance: float, width: int) -> None:
    draw = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 5, width, generator=draw).to(dtype).requires_grad_()
    key, value = (torch.randn(2, 3, 7, width, generator=draw).to(dtype) for _ in range(2))
    found = attend(query, key, value)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), by_formula(query, key, value), atol=tolerance, rtol=tolerance)
    torch.autograd.backward(found.sum())
    assert query.grad is not None
    assert query.grad.dtype == dtype


def test_in_bfloat16_on_a_cpu_only_the_result_is_rounded() -> None:
    """Sums are kept in float32: the math path that it replaces would round in between."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 50, 64, generator=draw).to(torch.bfloat16) for _ in range(3))
    exact = by_formula(query, key, value)
    # A bfloat16 has 8 significant bits.
    assert ((attend(query, key, value).double() - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()
