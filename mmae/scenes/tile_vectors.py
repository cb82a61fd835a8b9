"""Vectors of a shard set's tiles: computed in chunks that are stored when they are finished, then one Parquet file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from data_tools.workers.pool import Tally, in_processes
from data_tools.workers.progress import progress
from mmae.data.loading.loader import read_batches
from mmae.data.remote.open_shards import open_shards
from mmae.data.sampling.mixture import all_places
from mmae.data.sampling.shard_sets import ShardSet
from mmae.disk.free_space import need_space
from mmae.draws import VALIDATION_EPOCH
from mmae.errors import InputError
from mmae.inference.process_model import devices_of, load_here, model_hash, model_name
from mmae.modalities import DATASET_BANDS, MODALITIES, S2_LEVELS
from mmae.raw_tiles import stored_inputs
from mmae.scenes.files.geo_extra import pyarrow
from mmae.scenes.files.number_format import number_format
from mmae.scenes.files.parquet_output import TileVectors, write_parquet
from mmae.scenes.files.partial_output import REMEDY, PartialOutput, check_new_output, partial_output
from mmae.scenes.scene_options import batch_of, check_suffix
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmae.inference.raw_encoder import Pooling, RawEncoder
    from mmae.types import Batch, Inputs

_CHUNK: Final = 4096
_CACHE_GB: Final = 100.0
_SAMPLE: Final = 32
_SWITCH: Final = "--no-unit-check"


def embed_shards(args: argparse.Namespace) -> int:
    """Write the vectors of the tiles that the arguments of `mmae embed` name; the exit status."""
    out = Path(args.out)
    check_suffix(out, (".parquet",), "vectors of shards are a Parquet file")
    check_new_output(out)
    _check_options(args)
    pyarrow()
    devices = devices_of(args.processes)
    pooling: Pooling = args.pooling or "mean"
    job = TileJob(args.model, args.trust, args.src[0], args.cache_dir, pooling, batch_of(args.batch, devices), devices)
    index = job.set.index
    positions = np.arange(len(index)) if args.split is None else index.positions(args.split)
    dim = job.encoder.dim
    # What is refused leaves nothing behind.
    job.check_sample(positions, not args.no_unit_check)
    need_space(out.absolute().parent, 8 * len(positions) * dim, REMEDY)
    with partial_output(out, job.identity(args.split)) as partial:
        chunks = [_Chunk(start, positions[start : start + _CHUNK]) for start in range(0, len(positions), _CHUNK)]
        _compute(job, partial, chunks)

        def parts() -> Iterator[TileVectors]:
            return (TileVectors(chunk.positions, partial.load(chunk.name)["vectors"]) for chunk in chunks)

        form = number_format(args.dtype, (part.vectors_ND for part in parts()))
        facts = {"model": model_name(args.model), "modalities": job.names, "pooling": pooling, "dtype": args.dtype}
        loss = write_parquet(out, index, parts(), form, facts)
        partial.remove()
    print(
        printable(
            f"{out}: {counted(len(positions), 'tile')}, {dim} dimensions, {args.dtype}, of {', '.join(job.names)}"
        )
    )
    if args.dtype != "float32":
        print(f"{args.dtype}: {loss}")
    return 0


@dataclass(frozen=True)
class TileJob:
    """How tiles become vectors. It is given to worker processes.

    Attributes:
        location: of the shard set.
        pooling: `mean` of all tokens with data, or of the `global` tokens.
        devices: one a process.
    """

    model: str
    trust: bool
    location: str
    cache_dir: str | None
    pooling: Pooling
    batch: int
    devices: tuple[str, ...]

    def __getstate__(self) -> dict[str, Any]:
        # Each process opens the set and loads the model itself.
        return {key: value for key, value in self.__dict__.items() if key not in {"encoder", "set"}}

    @cached_property
    def encoder(self) -> RawEncoder:
        return load_here(self.model, self.trust, self.devices)

    @cached_property
    def set(self) -> ShardSet:
        return ShardSet(*open_shards(self.location, self.cache_dir, _CACHE_GB))

    @property
    def names(self) -> tuple[str, ...]:
        """The model's inputs whose datasets the shards hold.

        Raises:
            InputError: there is none; or vectors of global tokens are wanted of a model that has none.
        """
        config = self.encoder.saved.config
        if self.pooling == "global" and not config.num_global_tokens:
            raise InputError("--pooling global: this model has no global token: say --pooling mean")
        names = tuple(name for name in config.in_domains if MODALITIES[name].dataset in self.set.index.datasets)
        if not names:
            raise InputError(f"{self.location}: the shards hold no dataset of the model's inputs: repack with them")
        return names

    def identity(self, split: str | None) -> dict[str, Any]:
        """Everything that the result depends on, JSON-able."""
        return {
            "model": model_hash(self.model),
            "shards": self.set.index.fingerprint,
            "split": split,
            "pooling": self.pooling,
            "chunk": _CHUNK,
        }

    def batches(self, positions: NDArray[np.int64], size: int) -> Iterator[Batch]:
        return read_batches([self.set], self.names, all_places([positions]), seed=0, epoch=VALIDATION_EPOCH, size=size)

    def inputs(self, batch: Batch, check: bool = False) -> Inputs:
        levels = [S2_LEVELS[number] for number in batch.level_B.tolist()]
        bands = {name: tuple(range(DATASET_BANDS[name])) for name in batch.pixels}
        device = next(self.encoder.model.parameters()).device
        switch = _SWITCH if check else None
        return stored_inputs(self.encoder.saved, batch.pixels, bands, self.names, levels, device, switch)

    def check_sample(self, positions: NDArray[np.int64], check: bool) -> None:
        """Raise InputError if the values of some tiles cannot be in the units of the model's statistics."""
        step = max(1, len(positions) // _SAMPLE)
        for batch in self.batches(positions[::step][:_SAMPLE], _SAMPLE):
            self.inputs(batch, check)

    def vectors(self, batch: Batch) -> NDArray[np.float32]:
        """The vectors of whole tiles, neither cropped nor flipped, float32 (B, D); NaN for a tile without data."""
        found: NDArray[np.float32] = self.encoder.encode(self.inputs(batch), self.pooling).vector.cpu().numpy()
        return found


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Tiles that are stored together: from place `start` among those that are wanted."""

    start: int
    positions: NDArray[np.int64]

    @property
    def name(self) -> str:
        return f"tiles-{self.start:09d}"


def _compute(job: TileJob, partial: PartialOutput, chunks: list[_Chunk]) -> None:
    todo = [chunk for chunk in chunks if not partial.has(chunk.name)]
    total = sum(len(chunk.positions) for chunk in chunks)
    workers, work = len(job.devices), _Work(job, partial)
    with progress(total, "embed") as shown:
        shown.skip(total - sum(len(chunk.positions) for chunk in todo))
        with closing(in_processes(work, todo, workers, shown, lambda chunk: f"tile {chunk.start}")) as done:
            for _ in done:
                pass


@dataclass(frozen=True)
class _Work:
    job: TileJob
    partial: PartialOutput

    def __call__(self, chunk: _Chunk, tally: Tally) -> None:
        found = []
        for batch in self.job.batches(chunk.positions, self.job.batch):
            found.append(self.job.vectors(batch))
            tally.add(len(batch.row_B), sum(pixels.nbytes for pixels in batch.pixels.values()))
        self.partial.save(chunk.name, {"vectors": np.concatenate(found)})


def _check_options(args: argparse.Namespace) -> None:
    """Raise InputError if options of scenes are given: shards know their bands, levels and units."""
    for option in ("bands", "level", "units", "resample", "overlap", "window"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option} is for GeoTIFFs: shards know what they hold: leave it out")
    if args.offset:
        raise InputError("--offset is for GeoTIFFs: shards are checked when they are packed: leave it out")
