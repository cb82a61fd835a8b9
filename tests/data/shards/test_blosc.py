from __future__ import annotations

from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmae.data.shards import blosc
from mmae.data.shards.codec import DTYPES

Array = NDArray[Any]
SETTINGS = {"fast": blosc.FAST, "small": blosc.SMALL}

needs_library = pytest.mark.skipif(blosc.library() is None, reason="this wheel of blosc2 ships no libblosc2.so")


def array(kind: str, dtype: np.dtype[Any], count: int) -> Array:
    draw = np.random.default_rng(0)
    if kind == "noise":
        return np.frombuffer(draw.bytes(count * dtype.itemsize), dtype)
    if kind == "one value":
        return np.full(count, 7, dtype)
    if kind == "few values":
        return draw.integers(0, 5, count).astype(dtype)
    return (np.arange(count) // 3).astype(dtype)


@pytest.mark.long
@needs_library
@settings(max_examples=300)
@given(
    st.sampled_from(["noise", "one value", "few values", "ramp"]),
    st.sampled_from(DTYPES),
    st.one_of(st.integers(1, 300), st.sampled_from([4096, 8192, 8193, 16384, 32768, 40000])),
)
def test_the_library_writes_the_wrappers_bytes(kind: str, dtype: np.dtype[Any], count: int) -> None:
    plain = array(kind, dtype, count)
    for used in SETTINGS.values():
        assert blosc._by_library(blosc.library(), plain, used) == blosc._by_wrapper(plain, used)


@needs_library
def test_the_state_that_others_leave_changes_nothing() -> None:
    plain = array("few values", np.dtype("<u2"), 40000)
    library = blosc.library()
    expected = [blosc._by_wrapper(plain, used) for used in SETTINGS.values()]
    library.blosc1_set_compressor(b"zlib")
    library.blosc1_set_blocksize(4096)
    library.blosc1_set_splitmode(blosc2.SplitMode.NEVER_SPLIT.value)
    assert [blosc.compress(plain, used) for used in SETTINGS.values()] == expected


@needs_library
def test_a_thread_with_another_codec_in_between_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = array("few values", np.dtype("<u2"), 40000)
    set_up = blosc.set_up
    other = {blosc.FAST: blosc.SMALL, blosc.SMALL: blosc.FAST}
    monkeypatch.setattr(blosc, "set_up", lambda library, used: set_up(library, other[used]))
    for used in SETTINGS.values():
        assert blosc.compress(plain, used) == blosc._by_wrapper(plain, used)


@pytest.mark.parametrize("name", ["BLOSC_NTHREADS", "BLOSC_CLEVEL"])
def test_variables_that_change_the_library_keep_it_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    assert blosc.library.__wrapped__() is None


@pytest.mark.parametrize("content", [None, b"", b"not a library"])
def test_a_wheel_without_the_library_is_accepted(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    if content is not None:
        (tmp_path / "lib" / "libblosc2.so").write_bytes(content)
    monkeypatch.setattr(blosc2, "__file__", str(tmp_path / "__init__.py"))
    assert blosc.library.__wrapped__() is None


@pytest.mark.parametrize("used", SETTINGS)
def test_compresses_without_the_library_too(used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = array("ramp", np.dtype("<i2"), 5000)
    expected = blosc.compress(plain, SETTINGS[used])
    monkeypatch.setattr(blosc, "library", lambda: None)
    assert blosc.compress(plain, SETTINGS[used]) == expected
    out = np.empty_like(plain)
    blosc2.decompress2(expected, dst=out)
    assert np.array_equal(out, plain)
