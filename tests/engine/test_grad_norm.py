"""The gradient's norm is that of trusted implementations."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmae.engine.grad_norm import gradients_norm

pytestmark = pytest.mark.process

SHAPES = ((1,), (7,), (3, 5), (2, 3, 4), (17, 1), (64,))
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@pytest.mark.process
def test_no_gradient() -> None:
    assert gradients_norm([]).item() == 0
    assert gradients_norm([]).dtype == torch.float64


@pytest.mark.parametrize("gradients", [[torch.zeros(3)], [torch.empty(0)], [torch.empty(0), torch.zeros(2)]])
def test_nothing_in_the_gradients(gradients: list[Tensor]) -> None:
    assert gradients_norm(gradients).item() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bad_number_is_enough(bad: float, dtype: torch.dtype) -> None:
    gradients = [torch.ones(shape, dtype=dtype) for shape in SHAPES]
    gradients[3][1, 2, 3] = bad
    assert not gradients_norm(gradients).isfinite()


@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES)), min_size=1, max_size=9),
    scale=st.sampled_from([1e-4, 1.0, 1e3]),
    seed=st.integers(0, 99),
)
def test_is_torch_s_norm_of_the_same_numbers_in_float64(
    parts: list[tuple[tuple[int, ...], torch.dtype]], scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = [(torch.randn(shape, generator=generator) * scale).to(dtype) for shape, dtype in parts]
    expected = torch.nn.utils.get_total_norm([gradient.double() for gradient in gradients])
    torch.testing.assert_close(gradients_norm(gradients), expected, rtol=1e-6, atol=0)
