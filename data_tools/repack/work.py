"""Packing one planned shard, from source bytes to a tar file: for worker processes, and for the repair of a shard."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from data_tools.repack.job import OnError, Recipe, ShardJob, make_job, source_bytes
from data_tools.repack.shard_record import ShardRecord
from data_tools.repack.shard_writer import write_shard
from data_tools.repack.tile_packer import LostTileError, Memo, PackedTile, TilePacker
from data_tools.source.hdf5_faults import open_fault
from data_tools.source.json_files import TRAIN
from data_tools.source.raw_read import PlainTiles, RawTiles, TileArrays, will_need
from data_tools.stats.moments import Moments
from data_tools.workers.worker import Tally
from mmae.data.shards.index_json import Loss
from mmae.errors import InputError
from mmae.terminal.error_line import first_line

if TYPE_CHECKING:
    from data_tools.repack.shard_plan import PlannedShard
    from data_tools.source.dataset import Source


_AHEAD: Final = 256
_TOLD: Final = 16


def pack_shard(
    source: Source,
    shard: PlannedShard,
    path: Path,
    codec: str,
    *,
    on_error: OnError = "raise",
    tally: Tally | None = None,
) -> ShardRecord:
    """Write one planned shard in this process, with reads through HDF5: the bytes are those of `mmae repack`.

    The file gets its name when it is complete, and replaces an older one. It has no record beside it.

    Args:
        source: the opened source; its datasets, and their order, must be those of the shard set.
        shard: name, split and rows in stored order. For a shard of a finished set: `index.shards[k].name`, `.split`
            and `index.row[index.shard == k]`.
        path: where the shard is written.
        codec: the shard set's.
        on_error: `skip` leaves tiles that cannot be read out of the shard; they are listed in the record.
        tally: counts tiles as they are packed.

    Raises:
        InputError: a tile cannot be read; then nothing is written.
        OSError: the disk is full, or fails; then nothing is left.
    """
    recipe = Recipe(source.path, source.datasets, {}, codec, on_error)
    opened = {name: source.file[name] for name in source.datasets}
    return _write(recipe, make_job(source, shard, path, {}), opened, None, Memo(), tally, recorded=False)


@dataclass
class ShardWork:
    """Writes shards and their records, one job after another; picklable before its first job."""

    recipe: Recipe
    _memo: Memo = field(default_factory=Memo)

    def __call__(self, job: ShardJob, tally: Tally) -> ShardRecord:
        """Write a shard whole, or not at all.

        Raises:
            InputError: a tile cannot be read and must not be skipped, or nothing can be written.
        """
        recipe = self.recipe
        with ExitStack() as stack:
            descriptor, opened = _open(recipe, stack)
            try:
                return _write(recipe, job, opened, descriptor, self._memo, tally, recorded=True)
            except OSError as error:
                raise InputError(
                    f"{job.path}: cannot be written ({error.strerror}): make room or get access, "
                    "and run again; whole shards are kept"
                ) from error


def _open(recipe: Recipe, stack: ExitStack) -> tuple[int, dict[str, Any]]:
    """A descriptor of the file, and the datasets that HDF5 must read."""
    plain = [name for name in recipe.datasets if name not in recipe.storage]
    try:
        descriptor = os.open(recipe.path, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        if not plain:
            return descriptor, {}
        import h5py

        file = stack.enter_context(h5py.File(recipe.path, "r"))
        return descriptor, {name: file[name] for name in plain}
    except OSError as error:
        raise InputError(f"{recipe.path}: {open_fault(error)}") from error
    except KeyError as error:
        raise InputError(f"{recipe.path}: {first_line(error)}: was it replaced in the meantime? Run again") from error


def _write(
    recipe: Recipe,
    job: ShardJob,
    opened: Mapping[str, Any],
    descriptor: int | None,
    memo: Memo,
    tally: Tally | None,
    recorded: bool,
) -> ShardRecord:
    tiles: dict[str, TileArrays] = {}
    for name in recipe.datasets:
        if name in opened:
            tiles[name] = PlainTiles(opened[name], job.shard.rows)
        else:
            assert descriptor is not None
            tiles[name] = RawTiles(descriptor, recipe.storage[name], job.chunks[name])
    counted = recipe.statistics if job.shard.split == TRAIN else ()
    moments = Moments()
    packer = TilePacker(recipe.datasets, tiles, recipe.codec, job.shard.split, memo, moments, counted)
    lost: list[Loss] = []
    packed = _tiles(recipe, job, packer, lost, descriptor, tally)
    with _no_collection():
        return write_shard(job.path, job.shard.split, packed, recipe.datasets, lost, moments, recorded)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Switch the search for cyclic garbage off: packing creates none, and the search takes 2 % of the time."""
    had = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if had:
            gc.enable()


def _tiles(
    recipe: Recipe,
    job: ShardJob,
    packer: TilePacker,
    lost: list[Loss],
    descriptor: int | None,
    tally: Tally | None,
) -> Iterator[PackedTile]:
    rows, levels = job.shard.rows.tolist(), job.levels.tolist()
    places = list(job.chunks.values())
    read = source_bytes(recipe, job)
    for number, row in enumerate(rows):
        if descriptor is not None and number % _AHEAD == 0:
            # This is the window after the current one, except at the start.
            will_need(descriptor, places, number + _AHEAD if number else 0, number + 2 * _AHEAD)
        try:
            yield packer.pack(number, row, job.tile_ids[number], levels[number], job.tile_info[number])
        except LostTileError as error:
            if recipe.on_error == "raise":
                raise InputError(
                    f"{recipe.path}: row {row} (tile {job.tile_ids[number]}) of {error.dataset} {error.what}: "
                    "download the file again, or leave such tiles out with --on-error skip"
                ) from error
            lost.append(Loss(row, job.tile_ids[number], error.dataset, error.what))
        if tally is not None and (number % _TOLD == _TOLD - 1 or number == len(rows) - 1):
            begin = number - number % _TOLD
            tally.add(number + 1 - begin, int(read[begin : number + 1].sum()))
    packer.finish()
