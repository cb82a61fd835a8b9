"""The upper limit of any loader: Blosc2 decodes frames from memory into batch arrays, and nothing else happens."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import blosc2
import numpy as np

from mmae.bench.clock import Speed, Stopwatch
from mmae.bench.in_parallel import together
from mmae.bench.loader.loader_ways import Work
from mmae.data.shards import blosc
from mmae.data.shards.codec import header_bytes
from mmae.data.shards.index import open_index
from mmae.data.shards.reader import ShardReader
from mmae.data.shards.tar_layout import BLOCK, member_bytes
from mmae.disk.regular_file import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmae.data.shards.index import Index

# These are more tiles than any CPU cache holds, and few enough that every process can hold them in memory.
_MAX_TILES: Final = 2048
_LARGE_TILES: Final = 256


@dataclass(frozen=True)
class DecodeLimit:
    """Decodes frames into one batch's arrays again and again. Arrays that are constant over a tile cost nothing."""

    work: Work
    folder: Path

    def measure(self, processes: int) -> Speed:
        calls = list(_calls(open_index(self.folder), self.work))
        return together(lambda: _decode_all(calls, self.work.tiles // processes), processes)


class _Call:
    """One frame and the array that it is decoded into. It keeps both alive, since `raw` holds only addresses."""

    def __init__(self, frame: NDArray[np.uint8], target: NDArray[Any]) -> None:
        self.frame = frame
        self.target = target
        self.raw = (frame.ctypes.data, frame.nbytes, target.ctypes.data, target.nbytes)


def _calls(index: Index, work: Work) -> Iterator[list[_Call]]:
    """The frames to decode for each tile. The tiles are in shuffled order."""
    positions = np.random.default_rng(0).permutation(index.positions("train"))[:_MAX_TILES]
    infos = {name: index.datasets[name] for name in work.datasets}
    batch = {name: np.zeros((work.batch, *info.shape), info.dtype) for name, info in infos.items()}
    for number, position in enumerate(positions.tolist()):
        calls = []
        for name, frame in _frames(index, position):
            if name in batch:
                calls.append(_Call(frame, batch[name][number % work.batch, ...]))
        yield calls


def _frames(index: Index, position: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    start = index.offset.item(position)
    with open_regular(index.folder / index.shards[index.shard.item(position)].name) as file:
        for (name, info), size in zip(index.datasets.items(), index.size[position].tolist(), strict=True):
            if size == 0:
                continue
            file.seek(start + BLOCK)
            encoded = np.fromfile(file, np.uint8, size)
            if encoded[5] != 0:
                yield name, encoded[header_bytes(len(info.shape)) :].copy()
            start += member_bytes(size)


def _decode_all(calls: list[list[_Call]], tiles: int) -> Speed:
    rounds = -(-tiles // len(calls))
    library = blosc.library()
    flat = [call for of_tile in calls for call in of_tile]
    if library is None:
        pairs = [(call.frame, call.target) for call in flat]
        watch = Stopwatch()
        for _ in range(rounds):
            for frame, target in pairs:
                blosc2.decompress2(frame, dst=target, nthreads=1)
        return watch.speed(rounds * len(calls))
    decompress, raw = library.blosc2_decompress, [call.raw for call in flat]
    watch = Stopwatch()
    for _ in range(rounds):
        for source, packed, target_address, nbytes in raw:
            decompress(source, packed, target_address, nbytes)
    return watch.speed(rounds * len(calls))


def large_buffer_mb_per_s(folder: Path, datasets: tuple[str, ...], codec: str) -> float:
    """Decoded MB/s of Blosc2 for the same arrays and settings, but many tiles in one buffer.

    It shows how much of the limit is the cost of small frames.
    """
    index = open_index(folder)
    positions = index.positions("train")[:_LARGE_TILES].tolist()
    reader = ShardReader(index, datasets)
    settings = {"fast": blosc.FAST, "small": blosc.SMALL}[codec]
    seconds, nbytes = 0.0, 0
    for name in datasets:
        stacked = np.stack([reader.read(position).arrays[name] for position in positions])
        frame = blosc.compress(stacked, settings)
        out = np.zeros_like(stacked)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            blosc2.decompress2(frame, dst=out, nthreads=1)
            times.append(time.perf_counter() - begin)
        seconds += float(np.median(times))
        nbytes += stacked.nbytes
    return nbytes / seconds / 1e6
