"""One array <-> bytes: a small header that describes the array, then its payload.

    offset  0     4        5      6      7     8
            MMAE  version  codec  dtype  ndim  dims (uint32 each), payload

All numbers are little-endian. The payload of codec `none` is the array in C order; that of `fast`
and `small` is one Blosc2 chunk. An array that does not shrink is stored as `none`. Nothing is ever unpickled,
and every field is checked against the buffer before memory is taken or a decompressor sees a byte.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import blosc2
import numpy as np

from mmae.data.shards import blosc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Readable = bytes | bytearray | memoryview

MAGIC: Final = b"MMAE"
VERSION: Final = 1

CODECS: Final = ("none", "fast", "small")
"""Stored as an index into this tuple: raw; Blosc2 shuffle + LZ4; Blosc2 bitshuffle + Zstd level 1."""

DTYPES: Final = tuple(
    np.dtype(code) for code in ("<u1", "<u2", "<u4", "<u8", "<i1", "<i2", "<i4", "<i8", "<f4", "<f8", "<f2", "|b1")
)
"""Stored as an index into this tuple. Append only."""

MAX_NDIM: Final = 8
MAX_NBYTES: Final = 1 << 28
"""The most bytes of one tile's array. A header with a larger size is damaged or hostile."""

_PREFIX: Final = struct.Struct("<4sBBBB")
_DTYPE_CODES: Final = MappingProxyType({dtype: code for code, dtype in enumerate(DTYPES)})
_BLOSC2: Final = MappingProxyType({1: blosc.FAST, 2: blosc.SMALL})

# A chunk's own header: version, codec version, flags, type size, bytes, block size, compressed bytes,
# six filters, user codec, its meta, six filters' meta, reserved, more flags.
_CHUNK: Final = struct.Struct("<BBBBiii6sBB6sBB")
# Bits 4 to 6 say that the chunk is a run of one value; all others (dictionary, big-endian, instrumented,
# lazy, which makes the library open files) are never written here.
_RUN_BITS: Final = 0x70


class CodecError(ValueError):
    """The bytes are not an array of this format, or the array does not fit the destination."""


class _Header(NamedTuple):
    codec: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    """Offset of the payload."""
    nbytes: int
    """Bytes of the decoded array."""


def encode(array: NDArray[Any], codec: str = "small") -> bytes:
    """An array of one of `DTYPES` (either byte order, any layout) as bytes, without loss: NaN payloads survive.

    Raises:
        CodecError: an unknown codec, a dtype that is not in `DTYPES`, more than `MAX_NDIM` axes or `MAX_NBYTES` bytes.
    """
    dtype, heads = _heads(array.dtype, array.shape)
    if codec not in CODECS:
        raise CodecError(f"unknown codec {codec!r} (known: {', '.join(CODECS)})")
    # `ascontiguousarray` would add an axis to an array without axes.
    plain = np.asarray(array, dtype=dtype, order="C")
    number, payload = _payload(plain, CODECS.index(codec))
    return heads[number] + payload


@lru_cache(maxsize=1 << 10)
def _heads(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[np.dtype[Any], tuple[bytes, ...]]:
    """The stored dtype, and the bytes before the payload by codec. Cached, because a set has few dtypes and shapes."""
    stored = dtype.newbyteorder("<")
    if stored not in _DTYPE_CODES:
        raise CodecError(f"dtype {dtype} cannot be stored (known: {', '.join(d.name for d in DTYPES)})")
    if len(shape) > MAX_NDIM or math.prod(shape) * dtype.itemsize > MAX_NBYTES:
        raise CodecError(f"an array of shape {shape} and dtype {dtype} is too large for one tile")
    dims = struct.pack(f"<{len(shape)}I", *shape)
    prefixes = (_PREFIX.pack(MAGIC, VERSION, code, _DTYPE_CODES[stored], len(shape)) for code in range(len(CODECS)))
    return stored, tuple(prefix + dims for prefix in prefixes)


def decode(buffer: Readable) -> NDArray[Any]:
    """The array, freshly allocated and writable, little-endian.

    Raises:
        CodecError: the buffer is not exactly one array of this format.
    """
    header = _read_header(buffer)
    out = np.empty(header.shape, header.dtype)
    _decode_payload(buffer, header, out)
    return out


def header_bytes(ndim: int) -> int:
    """Bytes before the payload of an array of so many axes."""
    return _PREFIX.size + 4 * ndim


def decode_into(buffer: Readable, out: NDArray[Any]) -> None:
    """Decode straight into `out`: C-contiguous, writable, of the stored shape and dtype.

    Raises:
        CodecError: the buffer is not exactly one array of this format, or `out` does not match it.
    """
    header = _read_header(buffer)
    if out.dtype != header.dtype or out.shape != header.shape:
        raise CodecError(f"stored {header.dtype} {header.shape} does not fit into {out.dtype} {out.shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise CodecError("the array to decode into must be C-contiguous and writable")
    _decode_payload(buffer, header, out)


def _payload(plain: NDArray[Any], number: int) -> tuple[int, bytes | memoryview]:
    """The codec in use and its bytes. An array that does not shrink is stored raw, which also decodes faster."""
    if number == 0 or plain.nbytes <= _CHUNK.size:
        return 0, plain.tobytes()
    chunk = blosc.compress(plain, _BLOSC2[number])
    return (number, chunk) if len(chunk) < plain.nbytes else (0, plain.tobytes())


def _read_header(buffer: Readable) -> _Header:
    length = len(buffer)
    if length < _PREFIX.size:
        raise CodecError(f"{length} bytes are too few for a header")
    magic, version, number, dtype_code, ndim = _PREFIX.unpack_from(buffer)
    if magic != MAGIC:
        raise CodecError("not an array of this format")
    if version != VERSION:
        raise CodecError(f"array format {version}, but this mmae reads {VERSION}")
    if number >= len(CODECS) or dtype_code >= len(DTYPES) or ndim > MAX_NDIM:
        raise CodecError(f"unknown codec {number}, dtype {dtype_code} or number of axes {ndim}")
    start = header_bytes(ndim)
    if length < start:
        raise CodecError(f"{length} bytes are too few for {ndim} axes")
    shape = struct.unpack_from(f"<{ndim}I", buffer, _PREFIX.size)
    dtype = DTYPES[dtype_code]
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes > MAX_NBYTES:
        raise CodecError(f"shape {shape} is too large for one tile")
    _check_payload(buffer, start, nbytes, number, dtype.itemsize)
    return _Header(number, dtype, shape, start, nbytes)


def _check_payload(buffer: Readable, start: int, nbytes: int, number: int, itemsize: int) -> None:
    length = len(buffer) - start
    if number == 0:
        if length != nbytes:
            raise CodecError(f"payload of {length} bytes, {nbytes} expected")
        return
    if length < _CHUNK.size:
        raise CodecError(f"payload of {length} bytes is too short for a Blosc2 chunk")
    settings = _BLOSC2[number]
    _, _, flags, typesize, said, block, packed, filters, _, _, metas, _, more = _CHUNK.unpack_from(buffer, start)
    if said != nbytes or packed != length:
        raise CodecError(f"the chunk says {said} bytes in {packed}, but {nbytes} in {length} are expected")
    if nbytes == 0 or not 0 < block <= blosc.BLOCK_SIZE or typesize != itemsize or flags >> 5 != settings.flag:
        raise CodecError("the chunk's header contradicts the array's")
    if filters.strip(b"\0") != bytes((settings.filter.value,)) or any(metas) or more & ~_RUN_BITS:
        raise CodecError("the chunk uses a feature that this format does not have")


def _decode_payload(buffer: Readable, header: _Header, out: NDArray[Any]) -> None:
    payload = memoryview(buffer)[header.start :]
    if header.codec == 0:
        np.copyto(out, np.frombuffer(payload, header.dtype).reshape(header.shape))
        return
    try:
        blosc2.decompress2(payload, dst=out, nthreads=1)
    except (ValueError, RuntimeError) as error:
        raise CodecError("the compressed bytes are damaged") from error
