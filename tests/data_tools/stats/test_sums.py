from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data_tools.stats.sums import _EXACT_PIXELS, FloatSums, IntegerSums

BANDS = np.array([0])
SMALL = ["<u1", "<u2", "<i1", "<i2"]
WIDE = ["<i4", "<u4", "<i8", "<f4", "<f8"]


def two_pass(values: Any) -> dict[str, float]:
    """Statistics in exact rationals, which no arithmetic of ours shares."""
    exact = [Fraction(value) for value in values.tolist()]
    mean = sum(exact, Fraction(0)) / len(exact)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction(0)) / len(exact)
    return {"mean": float(mean), "std": float(variance) ** 0.5, "min": float(min(exact)), "max": float(max(exact))}


def table(sums: IntegerSums | FloatSums) -> dict[str, float]:
    return {name: values[0] for name, values in sums.table().items()}


@st.composite
def tiles(draw: st.DrawFn, kinds: list[str]) -> list[Any]:
    """Some tiles of one band, of one dtype; those of floats about an offset that is huge beside their spread."""
    dtype = np.dtype(draw(st.sampled_from(kinds)))
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))
    if dtype.kind != "f":
        return [draw(arrays(dtype, (1, length))) for length in lengths]
    digits = 2 if dtype.itemsize == 4 else 9
    offset = draw(st.sampled_from([0.0, 1.0, -7.5e3, 10.0**digits * 1e3]))
    spread = st.floats(-16, 16, width=32)
    return [
        draw(arrays(np.float64, (1, length), elements=spread)).astype(dtype) + dtype.type(offset) for length in lengths
    ]


@pytest.mark.long
@given(tiles(SMALL), st.randoms())
def test_small_integers_are_exact_in_any_order(parts: list[Any], random: Any) -> None:
    sums = IntegerSums(1)
    for part in parts:
        sums.add(BANDS, part)
    expected = two_pass(np.concatenate(parts, axis=1)[0])
    assert table(sums) == pytest.approx(expected, rel=1e-15)
    random.shuffle(parts)
    cut = random.randrange(len(parts) + 1)
    left, right = IntegerSums(1), IntegerSums(1)
    for number, part in enumerate(parts):
        (left if number < cut else right).add(BANDS, part)
    left.merge(right)
    assert left.table() == sums.table()


@pytest.mark.long
@settings(deadline=None)
@given(tiles(WIDE), st.integers(0, 5))
def test_other_numbers_agree_with_a_two_pass(parts: list[Any], cut: int) -> None:
    whole, left, right = FloatSums(1), FloatSums(1), FloatSums(1)
    for number, part in enumerate(parts):
        whole.add(BANDS, part)
        (left if number < cut else right).add(BANDS, part)
    left.merge(right)
    values = np.concatenate(parts, axis=1)[0]
    expected = two_pass(values)
    # int64 near 2^63 has more digits than float64: there, what is lost is lost when it is read.
    step = float(np.spacing(np.abs(values.astype(np.float64)).max()))
    for sums in (whole, left):
        found = table(sums)
        assert found["mean"] == pytest.approx(expected["mean"], rel=1e-12, abs=2 * step)
        assert found["std"] == pytest.approx(expected["std"], rel=1e-6, abs=2 * step)
        assert (found["min"], found["max"]) == (expected["min"], expected["max"])


def test_an_offset_of_ten_digits_costs_no_digit_of_the_deviation() -> None:
    values = 1e10 + np.random.default_rng(0).normal(0, 1e-3, (1, 4096))
    sums = FloatSums(1)
    for part in np.array_split(values, 7, axis=1):
        sums.add(BANDS, part)
    assert table(sums)["std"] == pytest.approx(two_pass(values[0])["std"], rel=1e-9)


@pytest.mark.parametrize("kind", [IntegerSums, FloatSums])
def test_a_constant_band_has_no_deviation(kind: Any) -> None:
    for value in (0, 1, 255):
        sums = kind(1)
        for _ in range(3):
            sums.add(BANDS, np.full((1, 1000), value, np.uint8))
        assert table(sums) == {"mean": value, "std": 0.0, "min": value, "max": value}


def test_the_largest_values_do_not_overflow() -> None:
    sums = IntegerSums(1)
    largest = np.full((1, 2 * _EXACT_PIXELS + 1), np.iinfo(np.uint16).max, np.uint16)
    largest[0, -1] = 0
    sums.add(BANDS, largest)
    # As many as a data set of a million tiles of 128 x 128 pixels has.
    for _ in range(13):
        sums.merge(IntegerSums.from_fields({name: getattr(sums, name) for name in IntegerSums.FIELDS}))
    share = Fraction(1, 2 * _EXACT_PIXELS + 1)
    assert table(sums)["mean"] == float(65535 * (1 - share))
    assert table(sums)["std"] == pytest.approx(65535 * float(share * (1 - share)) ** 0.5, rel=1e-14)


def test_numbers_beyond_float64_are_not_finite_and_do_not_warn() -> None:
    sums = FloatSums(1)
    sums.add(BANDS, np.array([[-1.7e308, 1.7e308]]))
    other = FloatSums(1)
    other.add(BANDS, np.array([[1.7e308]]))
    sums.merge(other)
    assert not np.isfinite(table(sums)["std"])


@pytest.mark.parametrize("kind", [IntegerSums, FloatSums])
def test_fields_come_back_and_others_are_refused(kind: Any) -> None:
    sums = kind(2)
    sums.add(np.array([1]), np.array([[1, 2]], np.int16))
    fields = {name: getattr(sums, name) for name in kind.FIELDS}
    again = kind.from_fields(fields)
    again.add(np.array([0, 1]), np.ones((2, 3), np.int16))
    assert sums.count.tolist() == [0, 2], "the fields are copies"
    assert kind.from_fields(fields).table() == sums.table()
    for wrong in ({}, fields | {"more": fields["count"]}, fields | {"least": fields["least"][:1]}):
        with pytest.raises(ValueError, match="not"):
            kind.from_fields(wrong)
    with pytest.raises(ValueError, match="count is float64"):
        kind.from_fields(fields | {"count": fields["count"].astype(np.float64)})
