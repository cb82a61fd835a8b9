"""Source -> shards and index. Workers pack the shards that are missing; the part that ends last writes the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools.repack.build_index import index_of, summary
from data_tools.repack.geographic_split import ground_of_rows
from data_tools.repack.job import Recipe, ShardJob, make_job
from data_tools.repack.out_folder import claim, finish, finished_set, remove_temporaries
from data_tools.repack.part_lock import Part, folder_lock, part_lock, remove_locks
from data_tools.repack.shard_plan import PlannedShard, plan_shards, plan_splits
from data_tools.repack.shard_record import is_packed, load_record
from data_tools.repack.work import ShardWork
from data_tools.source.chunks import find_places
from data_tools.source.tile_facts import tile_facts
from data_tools.workers.pool import in_processes
from data_tools.workers.progress import progress
from mmae.data.sampling.leaks import leaks_between, warnings
from mmae.data.shards.index import Index
from mmae.errors import InputError
from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from data_tools.repack.own_labels import OwnLabels
    from data_tools.source.dataset import Source
    from data_tools.source.tile_info import Facts


@dataclass(frozen=True)
class Request:
    """What to pack.

    Attributes:
        out: the folder for the shards.
        part: the part of the shards to pack.
        options: the options that determine the set's bytes, together with the source.
        computed: dataset -> the band_stats entries to compute.
        workers: number of processes.
        skip: leave out tiles that cannot be read.
        shown: show the progress.
        labels: labels of the source's rows that the index will hold.
    """

    out: Path
    part: Part
    options: Mapping[str, Any]
    computed: Mapping[str, tuple[str, ...]]
    workers: int
    skip: bool
    shown: bool
    labels: OwnLabels | None = None


def pack(source: Source, request: Request) -> Index | None:
    """Pack a part, and write the index if no other part is missing; None if one is missing.

    Raises:
        InputError: an unusable source or folder, an unreadable tile, or a killed worker.
        OSError: the folder cannot be written.
    """
    out, options = request.out, request.options
    index = finished_set(out, source, options)
    if index is not None:
        if any(out.glob(".*")):
            with folder_lock(out):
                _clear(out)
        return _as_it_is(out, index)
    facts = tile_facts(source)
    splits = plan_splits(source, facts, options["val_fraction"], options["seed"])
    # These come before hours of packing, because a user may want to change the splits.
    for line in warnings(leaks_between({name: ground_of_rows(source, facts, rows) for name, rows in splits.items()})):
        print(line)
    planned = plan_shards(splits, options["tiles_per_shard"], options["seed"])
    mine = _share(planned, request.part)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with folder_lock(out):
            # Another process may have finished while this one waited or read.
            index = finished_set(out, source, options)
            if index is not None:
                _clear(out)
                return _as_it_is(out, index)
            with _unless_finished(out, source, options):
                claim(out, source, options)
            alone = stack.enter_context(part_lock(out, request.part))
            remove_temporaries(out, None if alone else _stems(mine))
        with _unless_finished(out, source, options):
            _write_shards(source, request, mine)
        return _complete(source, request, planned, facts, tuple(splits))


@contextmanager
def _unless_finished(out: Path, source: Source, options: Mapping[str, Any]) -> Iterator[None]:
    """In this block an error of writing is no error if the set is finished then.

    Without locks, another part may finish the set, and remove the temporary files that this one is writing.
    """
    try:
        yield
    except (InputError, FileNotFoundError):
        if finished_set(out, source, options) is None:
            raise


def _share(planned: Sequence[PlannedShard], part: Part) -> list[PlannedShard]:
    return [shard for number, shard in enumerate(planned) if part.has(number)]


def _as_it_is(out: Path, index: Index) -> Index:
    print(printable(f"{out}: holds these shards already, nothing to do"))
    return index


def _clear(out: Path) -> None:
    """Remove what a finished set does not need. Call it under `folder_lock`."""
    finish(out)
    remove_locks(out)


def _stems(shards: Sequence[PlannedShard]) -> set[str]:
    return {Path(shard.name).stem for shard in shards}


def _write_shards(source: Source, request: Request, mine: Sequence[PlannedShard]) -> None:
    """Write those shards that are not whole yet."""
    out = request.out
    left = [shard for shard in mine if not is_packed(out / shard.name)]
    if not left:
        return
    storage, chunks = find_places(source, request.workers)
    recipe = Recipe(
        path=source.path.absolute(),
        datasets=source.datasets,
        storage=storage,
        codec=request.options["codec"],
        on_error="skip" if request.skip else "raise",
        statistics=tuple(request.computed),
    )
    jobs = (make_job(source, shard, out / shard.name, chunks) for shard in left)
    tiles, to_do = (sum(len(shard.rows) for shard in shards) for shards in (mine, left))
    try:
        with progress(tiles, "repack", request.shown) as bar:
            bar.skip(tiles - to_do)
            workers = min(request.workers, len(left))
            with closing(in_processes(ShardWork(recipe), jobs, workers, bar, _job_name)) as done:
                for _ in done:
                    pass
    except BaseException:
        remove_temporaries(out, _stems(left))
        raise


def _job_name(job: ShardJob) -> str:
    return job.shard.name


def _complete(
    source: Source, request: Request, planned: Sequence[PlannedShard], facts: Facts, splits: tuple[str, ...]
) -> Index | None:
    """Write the index, unless another part has written it or still has shards to pack."""
    out = request.out
    with folder_lock(out):
        index, written, missing = None, False, set[str]()
        with _unless_finished(out, source, request.options):
            index = finished_set(out, source, request.options)
            if index is None:
                records = {shard.name: load_record(out / shard.name) for shard in planned}
                missing = {name for name, record in records.items() if record is None}
                whole = [record for record in records.values() if record is not None]
                if not missing:
                    index = index_of(
                        source, out, request.options, request.computed, facts, splits, whole, request.labels
                    )
                    written = True
        if index is None:
            # Without locks, another part may have finished the set in the meantime.
            index = finished_set(out, source, request.options)
        if index is not None:
            _clear(out)
            missing.clear()
    if lost := missing & {shard.name for shard in _share(planned, request.part)}:
        raise InputError(f"{out / min(lost)}: gone or cut since it was packed: is the disk sound? run again")
    if missing:
        print(f"{out}: part {request.part} is packed; still to come: {counted(len(missing), 'shard')} of other parts")
        return None
    if index is not None and written:
        for line in summary(source, index):
            print(printable(line))
    return index
