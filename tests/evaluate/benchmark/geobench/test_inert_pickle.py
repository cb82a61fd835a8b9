"""Pickles of strangers are read and never run."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmae.evaluate.benchmark.geobench.inert_pickle import Record, class_of, labels_of, parse_literal, read_pickle


class Calls:
    """Runs a function when it is unpickled."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_payload_is_not_run(tmp_path: Path, protocol: int) -> None:
    made = tmp_path / "made"
    found = read_pickle(pickle.dumps({"label": 3, "band": Calls(os.mkdir, str(made))}, protocol))
    assert not made.exists()
    assert found["label"] == 3
    assert isinstance(found["band"], Record)
    assert found["band"].args == (str(made),)
    assert found["band"].named.rpartition(".")[2] == "mkdir"


def test_what_a_payload_makes_of_a_call_is_inert_too(tmp_path: Path) -> None:
    # eval("...")("...") and attributes of what a call gave.
    made = tmp_path / "made"
    data = b"cbuiltins\neval\n(Vopen\ntR(V" + str(made).encode() + b"\nVw\ntR."
    assert isinstance(read_pickle(data), Record)
    assert not made.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", ">i4"])
def test_arrays_of_labels_are_rebuilt(protocol: int, dtype: str) -> None:
    labels = np.array([1, 0, 1, 1, 0], dtype)
    found = labels_of(read_pickle(pickle.dumps(labels, protocol)))
    assert np.array_equal(found, labels)


@pytest.mark.parametrize("label", [7, np.int64(7), np.uint8(7), np.array([7]), np.array(7, ">i2")])
def test_class_numbers_of_any_kind_are_read(label: Any) -> None:
    assert class_of(read_pickle(pickle.dumps(label))) == 7


@pytest.mark.parametrize(
    "label", [True, 7.0, "7", None, np.float64(7), np.array([1, 2]), {"label": 7}, Calls(int, "7"), [1, 2]]
)
def test_what_is_no_class_number_is_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="label"):
        class_of(read_pickle(pickle.dumps(label)))


@pytest.mark.parametrize(
    "label",
    [
        np.array(["a"]),
        np.array([{}], dtype=object),
        np.zeros(200_000, np.uint8),
        np.zeros((2, 2, 2)),
        np.array([1 + 2j]),
        ["a"],
        "text",
    ],
)
def test_arrays_that_are_no_labels_are_refused(label: Any) -> None:
    with pytest.raises(ValueError, match="label"):
        labels_of(read_pickle(pickle.dumps(label)))


def test_bytes_that_do_not_fit_the_shape_are_refused() -> None:
    record = read_pickle(pickle.dumps(np.zeros(4, np.uint8)))
    version, _, dtype, order, data = record.state
    record.state = (version, (5,), dtype, order, data)
    with pytest.raises(ValueError, match="do not fit"):
        labels_of(record)
    record.state = (version, (1 << 60,), dtype, order, data)
    with pytest.raises(ValueError, match="shape"):
        labels_of(record)


def test_numbers_of_the_memo_that_would_fill_the_memory_are_refused() -> None:
    data = b"\x80\x04" + b"N" + b"r" + struct.pack("<I", 0x7FFFFFFF) + b"."
    with pytest.raises(ValueError, match="numbers more objects"):
        read_pickle(data)


def test_arrays_of_bytes_that_are_not_there_are_not_allocated() -> None:
    with pytest.raises(ValueError, match="bytearray8"):
        read_pickle(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".")


def test_tuples_too_deep_for_the_stack_are_refused() -> None:
    # As a key of a dictionary it would be hashed by recursion.
    data = b"\x80\x04}N" + b"\x85" * 100_000 + b"Ns."
    with pytest.raises(ValueError, match="too many steps"):
        read_pickle(data)


@pytest.mark.parametrize("data", [b"\x80\x04Pabc\n.", b"\x80\x02\x82\x01.", b"\x80\x04NQ."])
def test_objects_from_outside_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="outside"):
        read_pickle(data)


def test_a_pickle_of_any_length_is_not_read() -> None:
    with pytest.raises(ValueError, match="bytes"):
        read_pickle(pickle.dumps(b"a" * (1 << 23)))


@given(st.binary(max_size=200))
def test_damaged_pickles_are_one_kind_of_error(data: bytes) -> None:
    try:
        read_pickle(b"\x80\x04" + data)
    except ValueError:
        return


@pytest.mark.parametrize(
    "text", ["__import__('os').getcwd()", "b'a' + b'b'", "'text'", "(" * 100_000, "b'a'\n", "b'", "f'{1}'", "[b'a']"]
)
def test_only_a_literal_of_bytes_is_parsed(text: str) -> None:
    with pytest.raises(ValueError, match="literal"):
        parse_literal(text)


@given(st.binary(max_size=300))
def test_every_literal_of_bytes_is_parsed(data: bytes) -> None:
    assert parse_literal(str(data)) == data
