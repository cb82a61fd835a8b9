from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mmae.data.shards import blosc
from mmae.data.shards.codec import CODECS, DTYPES, CodecError, encode
from mmae.data.shards.slot_decoder import SlotDecoder, Window

Array = NDArray[Any]
SHAPE = (3, 16, 16)


def ramp(step: int = 1) -> Array:
    return (np.arange(768, dtype=np.uint16) * step).reshape(SHAPE)


def window_of(encoded: bytes, start: int = 0) -> Window:
    window = Window(start + len(encoded) + 5)
    window.view[start : start + len(encoded)] = encoded
    return window


@pytest.fixture(params=["library", "wrapper"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SlotDecoder:
    """A decoder for `ramp`, with libblosc2 itself if the wheel has it, and through the wrapper."""
    if request.param == "wrapper":
        monkeypatch.setattr(blosc, "library", lambda: None)
    return SlotDecoder(np.dtype("<u2"), SHAPE)


@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=20).flatmap(
            lambda shape: st.lists(
                st.integers(0, 3).map(lambda seed: random_array(dtype, shape, seed)), min_size=1, max_size=3
            )
        )
    ),
    st.sampled_from(CODECS),
)
def test_every_bit_survives(arrays: list[Array], codec: str) -> None:
    decoder = SlotDecoder(arrays[0].dtype, arrays[0].shape)
    out = np.zeros((2, *arrays[0].shape), arrays[0].dtype)
    for _ in range(2):
        for array in arrays:
            encoded = encode(array, codec)
            assert len(encoded) <= decoder.max_bytes
            decoder.into(window_of(encoded, 7), out)(7, len(encoded), 1)
            assert out[1].tobytes() == array.tobytes()
            assert not out[0].any()


def random_array(dtype: np.dtype[Any], shape: tuple[int, ...], seed: int) -> Array:
    """Noise, or small numbers, or one number: what is stored raw, compressed, or as a run."""
    draw = np.random.default_rng(seed)
    if seed == 0:
        return np.full(shape, 7, dtype)
    if seed == 1 or dtype == np.bool_:
        return draw.integers(0, 4, shape).astype(dtype)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(draw.bytes(count), dtype).reshape(shape)


@pytest.mark.parametrize("codec", CODECS)
def test_other_slots_are_left_alone(decoder: SlotDecoder, codec: str) -> None:
    out = np.full((4, *SHAPE), 9, np.uint16)
    for slot, step in ((2, 1), (0, 2), (2, 3)):
        encoded = encode(ramp(step), codec)
        decoder.into(window_of(encoded), out)(0, len(encoded), slot)
    assert np.array_equal(out[0], ramp(2))
    assert np.array_equal(out[2], ramp(3))
    assert (out[[1, 3]] == 9).all()


def test_another_array_may_take_the_place_of_one_that_is_gone(decoder: SlotDecoder) -> None:
    encoded = encode(ramp())
    for count in (1, 3, 2, 1):
        out = np.zeros((count, *SHAPE), np.uint16)
        decoder.into(window_of(encoded), out)(0, len(encoded), count - 1)
        assert np.array_equal(out[-1], ramp())
        del out


@pytest.mark.parametrize("codec", ["fast", "small"])
def test_every_truncation_is_an_error(decoder: SlotDecoder, codec: str) -> None:
    out = np.zeros((1, *SHAPE), np.uint16)
    encoded = encode(ramp(), codec)
    decoder.into(window_of(encoded), out)(0, len(encoded), 0)
    for length in range(len(encoded)):
        with pytest.raises(CodecError):
            decoder.into(window_of(encoded), out)(0, length, 0)
    with pytest.raises(CodecError):
        decoder.into(window_of(encoded), out)(0, len(encoded) + 1, 0)
    with pytest.raises(IndexError):
        decoder.into(window_of(encoded), out)(0, len(encoded) + 6, 0)
    with pytest.raises(IndexError):
        decoder.into(window_of(encoded), out)(-1, len(encoded), 0)


@pytest.mark.long
@pytest.mark.parametrize("codec", CODECS)
@settings(max_examples=300)
@given(st.data())
def test_bit_flips_never_escape(codec: str, data: st.DataObject) -> None:
    """After a sound array has taught the header, a flip is an error or stays in its slot, and leaves no trace."""
    decoder = SlotDecoder(np.dtype("<u2"), SHAPE)
    encoded = encode(ramp(), codec)
    out = np.full((3, *SHAPE), 9, np.uint16)
    decoder.into(window_of(encoded), out)(0, len(encoded), 1)
    flipped = bytearray(encoded)
    place = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(encoded) - 1)))
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(CodecError):
        decoder.into(window_of(bytes(flipped)), out)(0, len(encoded), 1)
    assert (out[[0, 2]] == 9).all()
    decoder.into(window_of(encoded), out)(0, len(encoded), 1)
    assert np.array_equal(out[1], ramp())


@pytest.mark.parametrize("other", [ramp()[:2], ramp().astype(np.uint32), ramp().reshape(-1)])
def test_arrays_of_another_dataset_are_refused(decoder: SlotDecoder, other: Array) -> None:
    out = np.zeros((1, *SHAPE), np.uint16)
    encoded = encode(other)
    with pytest.raises(CodecError, match="does not fit"):
        decoder.into(window_of(encoded), out)(0, len(encoded), 0)


def test_a_chunk_that_claims_more_is_refused(decoder: SlotDecoder) -> None:
    out = np.zeros((1, *SHAPE), np.uint16)
    sound = encode(ramp())
    decoder.into(window_of(sound), out)(0, len(sound), 0)
    for place, value in ((4, 1 << 20), (8, 1 << 16), (12, len(sound) - 19)):
        hostile = bytearray(sound)
        hostile[20 + place : 24 + place] = struct.pack("<i", value)
        with pytest.raises(CodecError, match="chunk"):
            decoder.into(window_of(bytes(hostile)), out)(0, len(sound), 0)


def test_headers_that_are_remembered_are_bounded(decoder: SlotDecoder) -> None:
    """Bytes of a chunk's header that mean nothing here may take any value in hostile files."""
    out = np.zeros((1, *SHAPE), np.uint16)
    for value in range(256):
        encoded = bytearray(encode(ramp()))
        encoded[20 + 22] = value
        decoder.into(window_of(bytes(encoded)), out)(0, len(encoded), 0)
        assert np.array_equal(out[0], ramp())
    assert len(decoder._known) <= 64
