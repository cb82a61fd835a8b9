"""Reads a pickle without running anything: each class or function that it names becomes an inert record.

GEO-Bench stores labels in pickles only. `read_pickle` gives plain values as they are, and a `Record` for everything
else. The rest of this module makes labels of such records.
"""

from __future__ import annotations

import ast
import io
import pickle
import pickletools
import re
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from mmae.terminal.error_line import first_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_BYTES: Final = 1 << 22
_MOST_STEPS: Final = 200_000
_MOST_NESTED: Final = 5_000
"""Tuples are hashed by recursion, which has no check against a stack that is too small."""
_MOST_NAMES: Final = 1_000
_MOST_LABELS: Final = 100_000

_TUPLES: Final = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"})
_REFUSED: Final = frozenset({"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"})
"""Steps that ask whoever reads for objects from outside."""
_LITERAL: Final = re.compile(r"b'(?:[^'\\\n]|\\[^\n])*'|b\"(?:[^\"\\\n]|\\[^\n])*\"")
_DTYPE: Final = re.compile(r"[<>=|]?([biuf])([1248])")
_NO_DTYPES: Final = frozenset({"b2", "b4", "b8", "f1"})


class Record:
    """What stands for an object of a class or function that a pickle names. Its own name is that of its class.

    Attributes:
        args: what it would have been called with.
        state: what would have been set in it.
    """

    named: ClassVar[str] = ""
    args: tuple[Any, ...]
    state: Any

    # Pickles also make objects without calling `__init__`.
    def __new__(cls, *args: Any, **_: Any) -> Record:
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    def __call__(self, *args: Any, **_: Any) -> Record:
        return Record(*args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of mappings are not needed."""

    def append(self, value: Any) -> None:
        """Items of sequences are not needed."""

    extend = add = append


class _InertUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._classes: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        named = f"{module}.{name}"
        if named not in self._classes:
            if len(self._classes) >= _MOST_NAMES:
                raise pickle.UnpicklingError("it names too many classes")
            self._classes[named] = type("NamedRecord", (Record,), {"named": named})
        return self._classes[named]


def parse_literal(text: str) -> bytes:
    """The bytes of which a text is Python's literal.

    Raises:
        ValueError: it is no such literal, or is too long.
    """
    if len(text) > 4 * _MOST_BYTES:
        raise ValueError(f"the attribute has {len(text)} characters")
    if not _LITERAL.fullmatch(text):
        raise ValueError("the attribute is no literal of bytes")
    with warnings.catch_warnings(action="ignore"):
        # One token of bytes holds no expression.
        found = ast.literal_eval(text)
    assert isinstance(found, bytes)
    return found


def read_pickle(data: bytes) -> Any:
    """What a pickle holds, with a `Record` for all that is not a plain value.

    Raises:
        ValueError: the pickle is damaged, too large, or asks for objects from outside.
    """
    try:
        _check_steps(data)
        return _InertUnpickler(io.BytesIO(data)).load()
    # A hostile pickle can raise any error in the machine that reads it.
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {first_line(error)[:120]}") from None


def _check_steps(data: bytes) -> None:
    """Read the pickle's steps without following them: what they would allocate is bounded by the pickle's length."""
    if len(data) > _MOST_BYTES:
        raise ValueError(f"the pickle has {len(data)} bytes")
    nested = 0
    for steps, (step, argument, _) in enumerate(pickletools.genops(data)):
        nested += step.name in _TUPLES
        if steps > _MOST_STEPS or nested > _MOST_NESTED:
            raise ValueError("the pickle has too many steps")
        if step.name in _REFUSED:
            raise ValueError(f"the pickle asks for an object from outside ({step.name})")
        # The memo is a table that grows to the largest number.
        if "PUT" in step.name and isinstance(argument, int) and argument > len(data):
            raise ValueError("the pickle numbers more objects than it holds")


def class_of(label: Any) -> int:
    """A class number that is stored as an int or as numpy's.

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    values = labels_of(label)
    if values.shape not in {(), (1,)} or values.dtype.kind not in "iu":
        raise ValueError("the label is no whole number")
    return int(values.reshape(()))


def labels_of(label: Any) -> NDArray[Any]:
    """An array that is stored as a list of numbers or as numpy's array.

    Raises:
        ValueError: it is anything else; or is too long, of another dtype, or of another number of bytes than it says.
    """
    if isinstance(label, list | tuple):
        if len(label) > _MOST_LABELS or not all(isinstance(value, bool | int | float) for value in label):
            raise ValueError("the label is no list of numbers")
        return np.array(label, dtype=np.float64)
    if not isinstance(label, Record):
        raise ValueError(f"the label is of type {type(label).__name__}")
    last = label.named.rpartition(".")[2]
    if last == "scalar" and len(label.args) == 2:
        return _array(label.args[0], (), False, label.args[1])
    if last == "_frombuffer" and len(label.args) == 4:
        data, dtype, shape, order = label.args
        return _array(dtype, shape, order == "F", data)
    if isinstance(label.state, tuple) and len(label.state) == 5:
        _, shape, dtype, fortran, data = label.state
        return _array(dtype, shape, fortran is True, data)
    raise ValueError(f"the label is an object of {label.named or 'an unknown class'}")


def _array(dtype: Any, shape: Any, fortran: bool, data: Any) -> NDArray[Any]:
    kind = _dtype(dtype)
    known = isinstance(shape, tuple) and all(type(side) is int and 0 <= side <= _MOST_LABELS for side in shape)
    if not known or len(shape) > 2:
        raise ValueError("the label's shape is not that of labels")
    count = int(np.prod(shape, dtype=np.int64))
    data = _old_bytes(data) if isinstance(data, Record) else data
    if count > _MOST_LABELS or not isinstance(data, bytes | bytearray) or len(data) != count * kind.itemsize:
        raise ValueError("the label's bytes do not fit its shape")
    return np.frombuffer(bytes(data), kind).reshape(shape, order="F" if fortran else "C")


def _old_bytes(record: Record) -> bytes | None:
    """Bytes as Python 2's pickles hold them: a text that is to be encoded."""
    if record.named != "_codecs.encode" or len(record.args) != 2 or record.args[1] != "latin1":
        return None
    text = record.args[0]
    return text.encode("latin1", "replace") if isinstance(text, str) else None


def _dtype(record: Any) -> np.dtype[Any]:
    said = record.args[0] if isinstance(record, Record) and record.args else None
    found = _DTYPE.fullmatch(said) if isinstance(said, str) else None
    if found is None or found[1] + found[2] in _NO_DTYPES:
        raise ValueError(f"the label's dtype {said!r:.40} is none of numbers")
    order = record.state[1] if isinstance(record.state, tuple) and len(record.state) > 1 else "="
    return np.dtype((order if order in {"<", ">"} else "=") + found[1] + found[2])
