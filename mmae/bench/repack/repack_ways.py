"""Ways to turn MMEarth's HDF5 file into shards: h5py with webdataset's own writer, and this project's repack."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from mmae.bench.clock import Speed, Stopwatch
from mmae.data.shards.codec import encode
from mmae.errors import InputError


@dataclass(frozen=True)
class Job:
    """What every way has to do: write all `tiles` of a file into shards of `per_shard` tiles under `scratch`."""

    file: Path
    tiles: int
    datasets: tuple[str, ...]
    codec: str
    per_shard: int
    scratch: Path


@dataclass(frozen=True)
class Stock:
    """h5py with webdataset's `ShardWriter`.

    The file is opened once, handles are kept, each dataset is read once for each tile, and members are encoded as
    repack encodes them.
    """

    job: Job

    def measure(self, processes: int) -> Speed:
        import webdataset  # noqa: F401  (before the clock starts)

        with _folder(self.job.scratch) as folder:
            watch = Stopwatch()
            parts = np.array_split(np.arange(self.job.tiles), processes)
            if processes == 1:
                _write_part(self.job, folder, 0, parts[0].tolist())
            else:
                _in_processes(self.job, folder, [part.tolist() for part in parts])
            return watch.speed(self.job.tiles)


def _in_processes(job: Job, folder: Path, parts: list[list[int]]) -> None:
    context = multiprocessing.get_context("fork")  # A fork does not import the modules again.
    running = [
        context.Process(target=_write_part, args=(job, folder, number, rows)) for number, rows in enumerate(parts)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise InputError("bench: a process of h5py + webdataset ended with an error")


def _write_part(job: Job, folder: Path, number: int, rows: list[int]) -> None:
    import webdataset

    tile_info = json.loads(job.file.with_name(f"{job.file.stem}_tile_info.json").read_bytes())
    ids = list(tile_info)
    pattern = str(folder / f"part{number}-%06d.tar")
    with h5py.File(job.file, "r") as file, webdataset.ShardWriter(pattern, maxcount=job.per_shard, verbose=0) as writer:
        handles = {name: file[name] for name in job.datasets}
        for row in rows:
            members = {f"{name}.b2": encode(np.asarray(data[row]), job.codec) for name, data in handles.items()}
            info = {"row": row, "tile_id": ids[row], "tile_info": tile_info[ids[row]]}
            writer.write({"__key__": f"{row:09d}", **members, "json": info})


@dataclass(frozen=True)
class Ours:
    """`mmae repack --workers N`."""

    job: Job

    def measure(self, processes: int) -> Speed:
        from data_tools.repack.command import repack

        job = self.job
        with _folder(job.scratch) as folder, contextlib.redirect_stdout(io.StringIO()):
            watch = Stopwatch()
            repack(
                job.file,
                folder / "shards",
                codec=job.codec,
                tiles_per_shard=job.per_shard,
                datasets=job.datasets,
                workers=processes,
                progress=False,
            )
            return watch.speed(job.tiles)


@contextmanager
def _folder(scratch: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="repacked-", dir=scratch))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
