from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn.functional import one_hot

from mmae.errors import InputError
from mmae.evaluate.frozen.nearest import knn


def drawn(rows: int, seed: int, dim: int = 8) -> torch.Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def test_votes_are_those_of_scikit_learn() -> None:
    train_ND, asked_MD = drawn(200, 0), drawn(50, 1)
    y_N = torch.arange(200) % 5

    def weights(distance: np.ndarray) -> np.ndarray:
        return np.exp((1 - distance) / 0.07)

    reference = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=weights)
    reference.fit(train_ND.double().numpy(), y_N.numpy())
    found = knn(train_ND, one_hot(y_N, 5), asked_MD)
    np.testing.assert_allclose(found.numpy(), reference.predict_proba(asked_MD.double().numpy()), atol=1e-9)


def test_the_order_of_rows_changes_nothing_even_where_rows_are_equal() -> None:
    train_ND = drawn(30, 0).repeat(4, 1)
    target_NT = torch.arange(120.0)[:, None]
    order = torch.randperm(120, generator=torch.Generator().manual_seed(3))
    asked_MD = drawn(10, 1)
    first = knn(train_ND, target_NT, asked_MD, k=6)
    torch.testing.assert_close(knn(train_ND[order], target_NT[order], asked_MD, k=6), first, rtol=1e-12, atol=0)


def test_many_rows_are_asked_in_parts_with_the_same_answers() -> None:
    train_ND, asked_MD = drawn(40, 0), drawn(2500, 1)
    target_NT = drawn(40, 2, 3)
    found = knn(train_ND, target_NT, asked_MD, k=5)
    torch.testing.assert_close(found[2000:2003], knn(train_ND, target_NT, asked_MD[2000:2003], k=5))
    assert knn(train_ND, target_NT, asked_MD[:0], k=5).shape == (0, 3)


def test_a_tiny_temperature_takes_the_nearest_alone() -> None:
    train_ND, asked_MD = drawn(40, 0), drawn(10, 1)
    target_NT = torch.arange(40.0)[:, None]
    found = knn(train_ND, target_NT, asked_MD, k=20, temperature=1e-6)
    nearest = torch.nn.functional.cosine_similarity(asked_MD[:, None], train_ND[None], dim=2).argmax(1)
    torch.testing.assert_close(found[:, 0], nearest.double())


def test_fewer_rows_than_k_are_refused() -> None:
    with pytest.raises(InputError, match="kNN with k 20: only 19 rows to choose from"):
        knn(drawn(19, 0), drawn(19, 1), drawn(2, 2))
