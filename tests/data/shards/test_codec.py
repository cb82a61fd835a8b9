from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mmae.data.shards.codec import CODECS, DTYPES, MAX_NBYTES, CodecError, decode, decode_into, encode

Array = NDArray[Any]


def same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def ramp() -> Array:
    return np.arange(13 * 16 * 16, dtype=np.uint16).reshape(13, 16, 16)


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        np.uint8, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9).map(lambda s: (*s, dtype.itemsize))
    ).map(lambda raw: (raw & 1 if dtype == np.bool_ else raw).reshape(-1).view(dtype).reshape(raw.shape[:-1]))
)


@given(arrays, st.sampled_from(CODECS))
def test_every_bit_survives(array: Array, codec: str) -> None:
    assert same_bits(decode(encode(array, codec)), array)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "array",
    [
        np.float32(2.5).reshape(()),
        np.zeros((0, 3), np.uint8),
        np.zeros(1, np.int8),
        np.zeros((13, 64, 64), np.uint16),
        np.full((8, 64, 64), -np.inf, np.float32),
        np.full((4, 33), np.nan, np.float64),
        np.full((300, 300), -7, np.int64),
        np.random.default_rng(0).integers(0, 1 << 16, (13, 64, 64)).astype(np.uint16),
    ],
    ids=["0-d", "empty", "one", "zeros", "-inf", "nan", "constant", "noise"],
)
def test_edge_cases(array: Array, codec: str) -> None:
    buffer = encode(array, codec)
    assert same_bits(decode(buffer), array)
    out = np.ones_like(array)
    decode_into(memoryview(buffer), out)
    assert same_bits(out, array)
    assert len(buffer) <= array.nbytes + 8 + 4 * array.ndim


@pytest.mark.parametrize("codec", CODECS)
def test_nan_payload_bits_survive(codec: str) -> None:
    bits = np.resize(np.array([0x7FC00001, 0x7F800001, 0xFFC12345, 0x7F800000, 0xFF800000, 0x80000000], np.uint32), 600)
    assert decode(encode(bits.view(np.float32), codec)).view(np.uint32).tolist() == bits.tolist()


@pytest.mark.parametrize("codec", CODECS)
def test_big_endian_is_stored_little_endian(codec: str) -> None:
    array = np.arange(1000, dtype=">i4")
    assert same_bits(decode(encode(array, codec)), array.astype("<i4"))


@pytest.mark.parametrize("codec", CODECS)
def test_any_memory_layout(codec: str) -> None:
    array = ramp().transpose(2, 0, 1)[::2, :, ::-1]
    assert same_bits(decode(encode(array, codec)), np.ascontiguousarray(array))


@pytest.mark.parametrize("codec", ["fast", "small"])
def test_arrays_that_compress_get_smaller(codec: str) -> None:
    assert len(encode(ramp(), codec)) < ramp().nbytes / 2


def test_decodes_into_a_slot_of_a_batch() -> None:
    batch = np.zeros((3, *ramp().shape), np.uint16)
    decode_into(encode(ramp(), "small"), batch[1])
    assert same_bits(batch[1], ramp())
    assert not batch[0].any()
    assert not batch[2].any()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "out",
    [
        np.zeros((13, 16, 16), np.int16),
        np.zeros((13, 16, 15), np.uint16),
        np.zeros((16, 16, 13), np.uint16).transpose(2, 0, 1),
        np.frombuffer(bytes(13 * 16 * 16 * 2), np.uint16).reshape(13, 16, 16),
    ],
    ids=["dtype", "shape", "not contiguous", "read-only"],
)
def test_refuses_an_output_that_does_not_fit(codec: str, out: Array) -> None:
    with pytest.raises(CodecError):
        decode_into(encode(ramp(), codec), out)


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.longdouble), np.zeros(3, np.complex64), np.array(["a"]), np.array([{}])]
)
def test_refuses_other_dtypes(array: Array) -> None:
    with pytest.raises(CodecError, match="cannot be stored"):
        encode(array)


def test_refuses_too_large_arrays_and_unknown_codecs() -> None:
    with pytest.raises(CodecError, match="too large"):
        encode(np.broadcast_to(np.uint8(0), MAX_NBYTES + 1))
    with pytest.raises(CodecError, match="too large"):
        encode(np.zeros((1,) * 9, np.uint8))
    with pytest.raises(CodecError, match="unknown codec 'zip'"):
        encode(np.zeros(1), "zip")


@pytest.mark.parametrize("codec", CODECS)
def test_every_truncation_is_an_error(codec: str) -> None:
    buffer = encode(ramp()[:1], codec)
    for length in range(len(buffer)):
        with pytest.raises(CodecError):
            decode(buffer[:length])
    with pytest.raises(CodecError):
        decode(buffer + b"\0")


@pytest.mark.long
@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=300)
@given(st.data())
def test_bit_flips_never_escape(codec: str, data: st.DataObject) -> None:
    """A flip is an error or yields an array of a size that the buffer may hold; it never crashes."""
    buffer = bytearray(encode(ramp(), codec))
    # Headers are where a flip does most harm.
    place = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(buffer) - 1)))
    buffer[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        array = decode(bytes(buffer))
    except CodecError:
        return
    assert array.nbytes == ramp().nbytes


@given(st.binary(max_size=200))
def test_noise_is_an_error(noise: bytes) -> None:
    with pytest.raises(CodecError):
        decode(noise)
    with pytest.raises(CodecError):
        decode(b"MMAE\x01\x02\x01\x01" + noise)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [(0, 0, "not an array"), (4, 2, "format 2"), (5, 3, "unknown"), (6, 99, "unknown"), (7, 9, "unknown")],
)
def test_unknown_headers_are_named(place: int, value: int, message: str) -> None:
    buffer = bytearray(encode(ramp()))
    buffer[place] = value
    with pytest.raises(CodecError, match=message):
        decode(bytes(buffer))


def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    head = b"MMAE" + bytes((1, 2, 1, 3)) + struct.pack("<3I", *(0xFFFFFFFF,) * 3)
    with pytest.raises(CodecError, match="too large"):
        decode(head + encode(ramp())[20:])


def test_a_chunk_that_claims_more_than_the_header_is_refused() -> None:
    buffer = bytearray(encode(ramp()))
    chunk = 8 + 4 * 3
    buffer[chunk + 4 : chunk + 8] = struct.pack("<i", 1 << 20)
    with pytest.raises(CodecError, match="the chunk says"):
        decode_into(bytes(buffer), np.empty_like(ramp()))


def test_bytes_do_not_change() -> None:
    """Stored shards must stay readable: this is version 1, byte by byte."""
    assert encode(np.array([[1, 2]], "<i2"), "none") == bytes.fromhex(
        "4d4d4145 01 00 05 02 01000000 02000000 0100 0200"
    )
