from __future__ import annotations

import numpy as np
import pytest

from mmae.errors import InputError
from mmae.scenes.files.number_format import Loss, NumberFormat, number_format


def vectors() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found = np.random.default_rng(0).normal(0, 1, (50, 8)).astype(np.float32)
    found[:, 3] *= 100
    found[7] = np.nan
    found[:, 5] = 0
    found[7, 5] = np.nan
    return found


def test_int8_uses_its_whole_range_in_every_dimension() -> None:
    exact = vectors()
    form = number_format("int8", [exact[:20], exact[20:]])
    stored = form.stored(exact)
    assert stored.dtype == np.int8
    assert (stored[7] == -128).all()
    data = np.delete(stored, 7, axis=0)
    assert np.abs(data).max(0).tolist() == [127] * 3 + [127, 127, 0, 127, 127]
    restored = form.restored(stored)
    assert np.isnan(restored[7]).all()
    assert form.scale_D is not None
    error = np.abs(np.delete(restored - exact, 7, axis=0))
    assert (error <= form.scale_D / 2 * 1.001).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_loss_that_is_stated_is_the_loss(dtype: str) -> None:
    exact, loss = vectors(), Loss()
    form = number_format(dtype, [exact])
    restored = form.restored(form.stored(exact))
    for part in (slice(0, 10), slice(10, 50)):
        loss.add(exact[part], restored[part])
    one, other = (np.delete(each, 7, axis=0).astype(np.float64) for each in (exact, restored))
    assert loss.vectors == 49
    assert loss.relative == pytest.approx(np.linalg.norm(other - one) / np.linalg.norm(one))
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert loss.least_cosine == pytest.approx(cosine.min())
    assert {"float32": loss.relative == 0, "float16": loss.relative < 1e-3, "int8": 0 < loss.relative < 0.01}[dtype]


def test_no_vectors_lose_nothing() -> None:
    loss = Loss()
    nothing = np.full((3, 4), np.nan, np.float32)
    form = number_format("int8", [nothing])
    assert (form.stored(nothing) == -128).all()
    loss.add(nothing, nothing)
    assert (loss.vectors, loss.relative, loss.least_cosine) == (0, 0.0, 1.0)


def test_numbers_that_half_precision_cannot_hold() -> None:
    with pytest.raises(InputError, match="float16 cannot hold 7e"):
        number_format("float16", [np.array([[1.0, 7e4]], np.float32)])


def test_a_scale_of_no_numbers_divides_nothing() -> None:
    assert NumberFormat("int8", np.ones(2, np.float32)).stored(np.zeros((1, 2), np.float32)).tolist() == [[0, 0]]
