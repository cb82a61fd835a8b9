"""Weights that no training that went well has."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmae.model.saved.doubtful_weights import LARGEST, doubt_of, warn_of_weights


def model(value: float) -> nn.Module:
    first = nn.Linear(2, 3)
    with torch.no_grad():
        first.weight[1, 1] = value
    return nn.Sequential(first, nn.BatchNorm1d(3), nn.Embedding(0, 4))


@pytest.mark.parametrize("value", [0.0, -50.0, LARGEST])
def test_weights_as_they_should_be(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert doubt_of(model(value)) == ""
    warn_of_weights(model(value), "run")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    assert doubt_of(model(value)) == "values in 1 of 6 tensors are not finite (first: 0.weight)"


@pytest.mark.parametrize("value", [1e27, -1.1e4])
def test_weights_that_are_absurd(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_weights(model(value), "run")
    assert capsys.readouterr().err == (
        "mmae: WARNING: run: values in 1 of 6 tensors are larger than 10000 (first: 0.weight); the training has "
        "diverged: take an earlier checkpoint\n"
    )
