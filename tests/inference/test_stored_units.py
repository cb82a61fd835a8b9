from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmae.data.checks.units import Finding
from mmae.errors import InputError
from mmae.inference.stored_units import as_stored, check_marks, check_offset, check_units_known, remedy

NUMBERS = [[[[0, 1, 7, 120]]]]


@pytest.mark.parametrize(
    "kind", ["u1", "i1", "<u2", ">u2", "i2", ">i4", "u4", "i8", "u8", "f2", "f4", ">f4", "f8", "longdouble"]
)
def test_any_real_dtype(kind: str) -> None:
    array = np.array(NUMBERS, np.dtype(kind))
    array.flags.writeable = False
    for values in (array, np.array(NUMBERS, array.dtype)[..., ::-1].copy()[..., ::-1]):
        assert as_stored(values, "sentinel2", None, 0).to(torch.float64).tolist() == NUMBERS


def test_tensors_of_any_real_dtype() -> None:
    for dtype in (torch.uint8, torch.int64, torch.uint16, torch.uint32, torch.bfloat16, torch.float64):
        stored = as_stored(torch.tensor(NUMBERS).to(dtype), "sentinel2", None, 0)
        assert stored.to(torch.float64).tolist() == NUMBERS
    for wrong in (np.array([[[[True]]]]), torch.tensor([[[[True]]]]), np.array([[[["a"]]]]), torch.tensor([1j])):
        with pytest.raises(InputError, match=r"sentinel2 has dtype .*: give integers or floating-point numbers"):
            as_stored(wrong, "sentinel2", None, 0)


def test_integers_that_are_read_as_they_are_keep_their_dtype() -> None:
    assert as_stored(np.array(NUMBERS, np.uint16), "sentinel2", None, 0).dtype is torch.uint16
    assert as_stored(np.array(NUMBERS, np.uint32), "esa_worldcover", None, 0).dtype is torch.int64
    assert as_stored(np.array([[[[2**31]]]], np.int64), "sentinel2", None, 0).item() == 2**31


def test_what_a_mask_hides_is_no_data() -> None:
    for dtype in (np.uint16, np.float32, np.int64):
        masked = np.ma.masked_array(np.array(NUMBERS, dtype), np.array([[[[0, 0, 1, 0]]]]))
        stored = as_stored(masked, "sentinel2", None, 0).flatten()
        assert stored.isnan().tolist() == [False, False, True, False]
        assert stored[[0, 1, 3]].tolist() == [0, 1, 120]
        assert as_stored(masked + 1000, "sentinel2", None, -1000).flatten().isnan().tolist() == [0, 0, 1, 0]
    codes = np.ma.masked_array(np.array([[[[10, 20]]]], np.uint8), np.array([[[[False, True]]]]))
    stored = as_stored(codes, "esa_worldcover", None, 0)
    assert (stored.dtype, stored.flatten().tolist()) == (torch.uint8, [10, 0])


def test_reflectance_becomes_digital_numbers() -> None:
    values = np.array([[[[0.0, 0.1234, 1.5, np.nan]]]], np.float32)
    stored = as_stored(values, "sentinel2", "reflectance", 0).flatten().tolist()
    assert stored[:3] == pytest.approx([0, 1234, 15000])
    assert np.isnan(stored[3])


def test_the_offset_of_newer_products_leaves_what_is_no_data() -> None:
    values = np.array([[[[0, 1, 1000, 1001, 4000]]]], np.uint16)
    assert as_stored(values, "sentinel2", None, -1000).flatten().tolist() == [0, 1, 1, 1, 3000]
    reflectance = (values / 10_000).astype(np.float64)
    lifted = as_stored(reflectance, "sentinel2", "reflectance", -1000).flatten().tolist()
    assert lifted == pytest.approx([0, 1, 1, 1, 3000], abs=0.01)


def test_linear_power_becomes_decibels() -> None:
    stored = as_stored(np.array([[[[0.1, 1.0, 0.0, -1.0]]]]), "sentinel1", {"sentinel1": "linear"}, 0).flatten()
    assert stored[:2].tolist() == pytest.approx([-10, 0], abs=1e-5)
    assert stored[2:].isnan().all()
    # The offset and the units of one dataset leave the others alone.
    assert as_stored(np.array([[[[0.1]]]]), "aster", "linear", -1000).item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("datasets", "units", "offset", "message"),
    [
        (("aster",), None, -1000.0, "offset=-1000 is for sentinel2"),
        (("sentinel2",), "percent", 0.0, r"units 'percent' are not known \(sentinel2: dn, reflectance\)"),
        (("aster",), "reflectance", 0.0, r"not known \(aster: as stored only\)"),
        (("sentinel2", "aster"), {"aster": "linear"}, 0.0, r"'linear' are not known \(aster: as stored only\)"),
        (("sentinel2",), {"sentinel": "dn"}, 0.0, "units of 'sentinel': its array is not given; did you mean"),
    ],
)
def test_units_that_cannot_be(datasets: tuple[str, ...], units: Any, offset: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_units_known(datasets, units, offset)


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), 10**400, "-1000", None, True, [1]])
def test_an_offset_is_a_finite_number(offset: Any) -> None:
    with pytest.raises(InputError, match=r"offset=.*: give a finite number, such as -1000$"):
        check_units_known(("sentinel2",), None, offset)
    check_units_known(("sentinel2",), None, np.float32(-1000))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_below_0_sentinel2_has_no_data(dtype: Any) -> None:
    values = np.array([[[[-9999, -1, 0, 5]]]], dtype)
    for offset, last in ((0, 5), (1000, 1005)):
        stored = as_stored(values, "sentinel2", None, offset).flatten()
        assert stored.isnan().tolist() == [True, True, False, False]
        assert stored[2:].tolist() == [0, last]
    assert as_stored(values, "aster", None, 0).flatten()[1:].tolist() == [-1, 0, 5]


def test_a_number_that_no_instrument_gives_is_no_data() -> None:
    for dtype, marks in ((np.int16, [-9999, -32768]), (np.float64, [-9999, -3.4e38, 1e20, np.inf, np.nan])):
        for values in (np.array([[[[*marks, -430, 8849]]]], dtype), torch.tensor([[[[*marks, -430, 8849]]]])):
            stored = as_stored(values, "aster", None, 0).flatten().tolist()
            assert not np.isfinite(stored[:-2]).any()
            assert stored[-2:] == [-430, 8849]
    assert as_stored(np.array([[[[1e20, 1.0]]]]), "sentinel1", "linear", 0).isnan().flatten().tolist() == [True, False]
    # Codes of classes are no measurements; and without marks integers keep their dtype.
    assert as_stored(np.array([[[[-9999]]]], np.int16), "esa_worldcover", None, 0).item() == -9999
    assert as_stored(np.array([[[[-430]]]], np.int16), "aster", None, 0).dtype is torch.int16


def test_pictures_and_marks_are_refused() -> None:
    for picture in (np.zeros((1, 1, 8, 8), np.uint8), torch.zeros(1, 1, 8, 8, dtype=torch.int8)):
        with pytest.raises(InputError, match=r"has dtype u?int8, as pictures have, .*check_units=False"):
            check_marks(picture, "sentinel2")
        check_marks(picture, "esa_worldcover")
    for dtype, most in (
        (np.uint16, 65535), (np.int16, 32767), (np.int32, 2**31 - 1), (np.int32, 65535), (np.float32, 32767)
    ):  # fmt: skip
        stored = np.full((1, 1, 20, 20), 500, dtype)
        stored[..., 0, 0] = most
        check_marks(stored, "sentinel2")
        stored[..., :10] = most
        with pytest.raises(InputError, match=rf"sentinel2: 50% of the numbers are {most}, .*set them to 0"):
            check_marks(stored, "sentinel2")


def test_an_offset_that_was_subtracted_before_is_refused() -> None:
    product = np.full((1, 2, 20, 20), 1020, np.uint16)
    product[..., :10, :] = 0
    check_offset(product, "sentinel2", None, -1000)
    check_offset(product - 0.0, "aster", None, -1000)
    for values, units in ((product - 1000.0, None), ((product - 1000.0) / 10_000, "reflectance")):
        check_offset(values, "sentinel2", units, 0)
        with pytest.raises(InputError, match=r"offset=-1000: 100% of .* are below 500, .*leave it out"):
            check_offset(values, "sentinel2", units, -1000)
    check_offset(np.zeros((1, 1, 8, 8)), "sentinel2", None, -1000)
    with pytest.raises(InputError, match=r"offset=-0.1 is too small: .*say offset=-1000$"):
        check_units_known(("sentinel2",), "reflectance", -0.1)


def test_tensors_without_plain_numbers_are_refused() -> None:
    for tensor in (torch.zeros(1, 1, 8, 8).to_sparse(), torch.zeros(1, 1, 8, 8, device="meta")):
        with pytest.raises(InputError, match="aster is a sparse or an empty"):
            as_stored(tensor, "aster", None, 0)


def test_units_that_can_be() -> None:
    check_units_known(("sentinel2", "aster"), "Reflectance", -1000)
    check_units_known(("sentinel1", "sentinel2"), {"sentinel1": "linear", "sentinel2": "dn"}, 0)


def test_the_factor_decides_what_to_do() -> None:
    assert "units='reflectance'" in remedy(Finding("scale", "", 9000))
    assert remedy(Finding("scale", "", 120)) == "multiply them by about 100"
    assert "band_stats" in remedy(Finding("far", ""))
    assert "offset=-1000" in remedy(Finding("offset", ""))
