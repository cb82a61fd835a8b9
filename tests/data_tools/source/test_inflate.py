from __future__ import annotations

import importlib
import resource
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.source import inflate as module
from data_tools.source.inflate import Inflate, by_libdeflate, by_zlib_ng

WAYS = {"zlib-ng": by_zlib_ng, "libdeflate": by_libdeflate()}


@pytest.fixture(params=list(WAYS))
def inflate(request: pytest.FixtureRequest) -> Inflate:
    way = WAYS[request.param]
    if way is None:
        pytest.skip("package deflate is not installed")
    return way


def damaged(inflate: Inflate, stored: bytes, nbytes: int) -> None:
    with pytest.raises(ValueError, match="it does not inflate to its size"):
        inflate(stored, nbytes)


@pytest.mark.parametrize("way", [way for way in WAYS.values() if way is not None])
@given(st.binary(min_size=1, max_size=300), st.integers(1, 350), st.integers(0, 9))
def test_all_of_it_or_an_error(way: Inflate, content: bytes, nbytes: int, level: int) -> None:
    stored = zlib.compress(content, level)
    assert way(stored, len(content)) == content
    if len(content) != nbytes:
        damaged(way, stored, nbytes)
    for cut in range(len(stored)):
        damaged(way, stored[:cut], len(content))


@pytest.mark.parametrize("way", [way for way in WAYS.values() if way is not None])
@given(st.binary(max_size=100), st.integers(1, 200))
def test_noise(way: Inflate, stored: bytes, nbytes: int) -> None:
    try:
        expected: bytes | None = zlib.decompress(stored)
    except zlib.error:
        expected = None
    if expected is None or len(expected) != nbytes:
        damaged(way, stored, nbytes)


def test_what_follows_the_stream_is_left(inflate: Inflate) -> None:
    assert inflate(zlib.compress(b"x" * 16) + b"more", 16) == b"x" * 16


def test_the_checksum_counts(inflate: Inflate) -> None:
    damaged(inflate, zlib.compress(b"x" * 16)[:-4] + b"abcd", 16)


@pytest.mark.long
def test_a_bomb_takes_no_memory(inflate: Inflate) -> None:
    bomb = zlib.compress(bytes(1 << 28))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for nbytes in (1, 1000, 1 << 20):
        damaged(inflate, bomb, nbytes)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_zlib_ng_where_the_other_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    assert module.inflate is not None
    monkeypatch.setattr(importlib, "import_module", missing)
    assert by_libdeflate() is None
