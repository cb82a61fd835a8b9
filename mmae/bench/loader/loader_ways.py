"""Ways to read shuffled batches: plain h5py, the stock webdataset pipeline, and this project's loader.

Each reads the same datasets of the same tiles, and hands over batches of torch tensors in the stored dtypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mmae.bench.clock import Speed, Stopwatch
from mmae.data.shards.codec import decode
from mmae.types import Batch

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

_SEED: Final = 0
_PREFETCH: Final = 4
_SHUFFLE_BUFFER: Final = 1000


@dataclass(frozen=True)
class Work:
    """What every way has to read: some datasets in batches of `batch` tiles, measured over `tiles` tiles."""

    datasets: tuple[str, ...]
    tiles: int
    batch: int

    def skip(self, workers: int) -> int:
        """How many batches pass before the measurement begins: twice as many as workers read in advance."""
        return 2 + 2 * _PREFETCH * workers


@dataclass(frozen=True)
class H5py:
    """Plain h5py. The file is opened once, dataset handles are kept, and each dataset is read once for each tile."""

    work: Work
    file: Path

    def measure(self, processes: int) -> Speed:
        workers = 0 if processes == 1 else processes
        loader: DataLoader[dict[str, torch.Tensor]] = DataLoader(
            _H5pyBatches(self.file, self.work.datasets),
            batch_size=None,
            sampler=_Rows(self.work.tiles, self.work.batch),
            num_workers=workers,
            prefetch_factor=_PREFETCH if workers else None,
        )
        return speed_of(sizes(loader), self.work.tiles, self.work.skip(workers))


class _H5pyBatches(Dataset[dict[str, torch.Tensor]]):
    def __init__(self, file: Path, datasets: tuple[str, ...]) -> None:
        self._path = file
        self._datasets = datasets
        self._handles: dict[str, h5py.Dataset] = {}

    def __getitem__(self, rows: list[int]) -> dict[str, torch.Tensor]:
        if not self._handles:
            import h5py

            file = h5py.File(self._path, "r")
            self._handles = {name: file[name] for name in self._datasets}
        arrays = {name: np.empty((len(rows), *data.shape[1:]), data.dtype) for name, data in self._handles.items()}
        for slot, row in enumerate(rows):
            for name, data in self._handles.items():
                arrays[name][slot] = data[row]
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


class _Rows:
    """Yields the shuffled rows of one batch after another, without end."""

    def __init__(self, tiles: int, batch: int) -> None:
        self._tiles = tiles
        self._batch = batch

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng(_SEED)
        while True:
            rows = draw.permutation(self._tiles).tolist()
            for start in range(0, self._tiles - self._batch + 1, self._batch):
                yield rows[start : start + self._batch]


@dataclass(frozen=True)
class Stock:
    """webdataset's own pipeline over the shards, with one registered decoder."""

    work: Work
    shards: tuple[str, ...]

    def measure(self, processes: int) -> Speed:
        import webdataset

        workers = 0 if processes == 1 else processes
        wanted = (*(f".{name}.b2" for name in self.work.datasets), ".json")
        pipeline = (
            webdataset.WebDataset(
                list(self.shards),
                shardshuffle=len(self.shards),
                seed=_SEED,
                select_files=partial(_ends_with, wanted),
            )
            .shuffle(_SHUFFLE_BUFFER)
            .decode(_decode_member)
            .map(self._arrays)
            .batched(self.work.batch, collation_fn=_stack, partial=True)
            .repeat()
        )
        loader = webdataset.WebLoader(
            pipeline, batch_size=None, num_workers=workers, prefetch_factor=_PREFETCH if workers else None
        )
        return speed_of(sizes(loader), self.work.tiles, self.work.skip(workers))

    def _arrays(self, sample: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """All arrays of a sample: decoded members, and arrays that are constant over the tile, which have no member."""
        constants = sample["json"]["constants"]
        return {
            name: _constant(*constants[name]) if name in constants else sample[f"{name}.b2"]
            for name in self.work.datasets
        }


def _ends_with(wanted: tuple[str, ...], name: str) -> bool:
    return name.endswith(wanted)


def _decode_member(key: str, data: bytes) -> Any:
    return decode(data) if key.endswith(".b2") else None


def _constant(dtype: str, shape: list[int], bits: str) -> NDArray[Any]:
    return np.full(shape, np.frombuffer(bytes.fromhex(bits), dtype)[0])


def _stack(samples: list[dict[str, NDArray[Any]]]) -> dict[str, torch.Tensor]:
    names = [name for name in samples[0] if not name.startswith("__")]  # webdataset adds the sample's key.
    return {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in names}


@dataclass(frozen=True)
class Ours:
    """`mmae.data.loading.loader`, as training calls it."""

    work: Work
    folder: Path
    domains: tuple[str, ...]

    def measure(self, processes: int) -> Speed:
        from mmae.config.batch_split import BatchSplit
        from mmae.config.schema import DataConfig
        from mmae.data.loading.loader import train_batches
        from mmae.data.sampling.order import TrainOrder
        from mmae.data.shards.index import open_index

        workers = 0 if processes == 1 else processes
        index = open_index(self.folder)
        batches = train_batches(
            index,
            self.domains,
            DataConfig(shards=str(self.folder), workers=workers, prefetch=_PREFETCH),
            seed=_SEED,
            order=TrainOrder(len(index.positions("train")), self.work.batch, _SEED),
            split=BatchSplit(self.work.batch, 1, 1),
            rank=0,
            start_step=0,
            stop_step=1 << 40,
            pin=False,
        )
        return speed_of(sizes(batches), self.work.tiles, self.work.skip(workers))


def speed_of(batches: Iterable[int], tiles: int, skip: int) -> Speed:
    """The speed, measured over at least `tiles` tiles after the first `skip` batches.

    Args:
        batches: the sizes of batches, without end.
    """
    stream = iter(batches)
    for _ in range(skip):
        next(stream)
    done = 0
    watch = Stopwatch()
    while done < tiles:
        done += next(stream)
    return watch.speed(done)


def sizes(batches: Iterable[Batch | dict[str, torch.Tensor]]) -> Iterator[int]:
    """The number of tiles of each batch."""
    for batch in batches:
        pixels = batch.pixels if isinstance(batch, Batch) else batch
        yield len(next(iter(pixels.values())))
