"""Makers' figures."""

from __future__ import annotations

import pytest
import torch

from mmae.model.counts.peak_flops import datasheet_flops, flops_of_model


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", (989e12, "H100")),
        ("NVIDIA A100-SXM4-80GB", (312e12, "A100")),
        ("NVIDIA GH200 480GB", (989e12, "GH200")),
        ("NVIDIA A10", None),
        ("", None),
    ],
)
def test_a_model_is_told_by_its_whole_name(name: str, found: tuple[float, str] | None) -> None:
    assert flops_of_model(name) == found


def test_nothing_is_claimed_of_a_cpu() -> None:
    assert datasheet_flops(torch.device("cpu"), torch.bfloat16) is None
