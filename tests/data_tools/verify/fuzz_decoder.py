"""Hands damaged bytes to the decoders with no checksum before them: `python fuzz_decoder.py CODEC ROUNDS`.

Run by test_fuzz.py in a process of its own. Prints how many were refused and how many decoded to something.
"""

from __future__ import annotations

import random
import resource
import struct
import sys
from typing import Any

import numpy as np

from mmae.data.shards.codec import CodecError, decode, decode_into, encode
from mmae.data.shards.slot_decoder import SlotDecoder, Window

GUARD = 64
MEMORY = 8 << 30


def samples() -> list[Any]:
    """Arrays as tiles have them: smooth, noisy, runs, floats with infinities, a single value."""
    draw = np.random.default_rng(0)
    ramp = np.arange(13 * 64 * 64, dtype=np.uint16).reshape(13, 64, 64) // 7
    radar = draw.normal(-12, 4, (8, 32, 32)).astype(np.float32)
    radar[4:] = -np.inf
    height = np.where(draw.random((2, 64, 64)) < 0.1, 127, 3).astype(np.int8)
    return [ramp, draw.integers(0, 3000, (13, 16, 16)).astype(np.uint16), radar, height, np.zeros((846,), np.uint16)]


def damaged(encoded: bytes, draw: random.Random) -> bytes:
    content = bytearray(encoded)
    kind = draw.randrange(7)
    if kind == 0:
        for _ in range(draw.choice([1, 1, 2, 8])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        content[draw.randrange(min(64, len(content)))] = draw.randrange(256)
    elif kind == 2:
        del content[draw.randrange(len(content)) :]
    elif kind == 3:
        content += draw.randbytes(draw.randrange(1, 600))
    elif kind == 4:
        begin = draw.randrange(len(content))
        content[begin : begin + 64] = draw.choice([bytes(64), b"\xff" * 64, draw.randbytes(64)])
    elif kind == 5:
        at = draw.randrange(0, max(1, min(60, len(content) - 4)))
        content[at : at + 4] = struct.pack("<I", draw.choice([0, 1, 1 << 15, 1 << 31, (1 << 32) - 1, len(content)]))
    else:
        begin, end = sorted((draw.randrange(len(content)), draw.randrange(len(content))))
        content[begin:end] = content[begin:end][::-1]
    return bytes(content)


def resized(content: bytes) -> bytes:
    """The chunk's own length made right, so that what was cut or appended gets past the first check."""
    if len(content) > 60 and content[7] < 4:
        at = 8 + 4 * content[7] + 12
        return content[:at] + struct.pack("<i", len(content) - at + 12) + content[at + 4 :]
    return content


def attempt(content: bytes, like: Any, slots: SlotDecoder) -> bool:
    """Decode by all ways, each into memory with guards around it; whether any way took the bytes."""
    taken = False
    try:
        decode(content)
        taken = True
    except CodecError:
        pass
    memory = np.full(like.nbytes * 3 + 2 * GUARD, 0xA5, np.uint8)
    inner = memory[GUARD : GUARD + 3 * like.nbytes].view(like.dtype).reshape(3, *like.shape)
    window = Window(len(content))
    window.view[:] = content
    try:
        decode_into(content, inner[1, ...])
        taken = True
    except CodecError:
        pass
    try:
        slots.into(window, inner)(0, len(content), 1)
        taken = True
    except CodecError:
        pass
    outside = memory[: GUARD + like.nbytes], memory[GUARD + 2 * like.nbytes :]
    assert all((part == 0xA5).all() for part in outside), "written beyond the slot"
    return taken


def main(codec: str, rounds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    draw = random.Random(codec)
    arrays = samples()
    encoded = [encode(array, codec) for array in arrays]
    decoders = [SlotDecoder(array.dtype, array.shape) for array in arrays]
    for array, sound, slots in zip(arrays, encoded, decoders, strict=True):
        assert attempt(sound, array, slots)
        assert np.array_equal(decode(sound), array)
    counts = [0, 0]
    for _ in range(rounds):
        number = draw.randrange(len(arrays))
        content = damaged(encoded[number], draw)
        content = resized(content) if draw.random() < 0.5 else content
        counts[attempt(content, arrays[number], decoders[number])] += 1
    print(*counts)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
