from __future__ import annotations

import pytest
import torch

from mmae.errors import InputError
from mmae.evaluate.frozen.normalisers import fit_normaliser

ROWS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10, 0, 1e-9]) + 5


def test_each_normaliser_does_what_its_name_says() -> None:
    assert torch.equal(fit_normaliser("none", ROWS)(ROWS), ROWS.double())
    centred = fit_normaliser("centre", ROWS)(ROWS)
    torch.testing.assert_close(centred.mean(0), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    scored = fit_normaliser("zscore", ROWS)(ROWS)
    torch.testing.assert_close(scored[:, :2].std(0, correction=0), torch.ones(2, dtype=torch.float64))


def test_a_dimension_that_does_not_vary_is_0_and_not_rounding_made_large() -> None:
    assert torch.equal(fit_normaliser("zscore", ROWS)(ROWS)[:, 2:], torch.zeros(50, 2, dtype=torch.float64))
    assert torch.equal(fit_normaliser("zscore", ROWS[:1])(ROWS[:2]), torch.zeros(2, 4, dtype=torch.float64))


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(InputError, match="'zscor' is not known; did you mean 'zscore'"):
        fit_normaliser("zscor", ROWS)
