"""The recorded products of a step are all of its products."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from mmae.bench.step.matmuls import Matmul, Replay
from tests.support.recorded_products import record


def total(found: Counter[Matmul]) -> int:
    return sum(product.flops * count for product, count in found.items())


def test_a_step_without_matrix_products_records_none() -> None:
    assert not record(lambda: torch.ones(3) + 1)


def test_a_linear_layer_has_one_forward_and_two_backward() -> None:
    layer, x = nn.Linear(6, 4), torch.randn(5, 6, requires_grad=True)
    found = record(lambda: layer(x).sum().backward())
    shapes = Counter({(p.m, p.k, p.n): count for p, count in found.items()})
    assert shapes == {(5, 6, 4): 1, (5, 4, 6): 1, (4, 5, 6): 1}


@pytest.mark.parametrize("needs_input", [True, False])
def test_counts_what_torch_counts(needs_input: bool) -> None:
    convolution, linear = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)
    x = torch.randn(2, 3, 8, 8, requires_grad=needs_input)
    weights = torch.randn(2, 8, 8, requires_grad=True)

    def step() -> None:
        tokens = linear(convolution(x).flatten(2).transpose(1, 2))
        torch.autograd.backward([(tokens @ weights).sum()])

    with FlopCounterMode(display=False) as counter:
        step()
    assert total(record(step)) == counter.get_total_flops()


def test_attention_is_two_products_forward_and_four_backward() -> None:
    query = torch.randn(2, 3, 5, 4, requires_grad=True)
    key, value = (torch.randn(2, 3, 7, 4, requires_grad=True) for _ in range(2))
    found = record(lambda: torch.autograd.backward([scaled_dot_product_attention(query, key, value).sum()]))
    assert total(found) == 6 * (2 * 6 * 5 * 7 * 4)


@pytest.mark.parametrize("product", [Matmul(1, 3, 4, 5, torch.float32, True), Matmul(2, 3, 4, 5, torch.bfloat16)])
def test_replays_each_as_often_as_recorded(product: Matmul) -> None:
    replay = Replay({product: 3}, torch.device("cpu"))
    again = record(replay)
    assert again == {product: 3}
